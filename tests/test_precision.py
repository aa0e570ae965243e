"""`auto` follows what PyTorch may use."""
import os,subprocess,sys

def test_auto_is_fp32_where_bf16_may_not_be_used():
    "An environment that keeps PyTorch and oneDNN to AVX2 makes a newer processor like an older one"
    env = {k: v for k,v in os.environ.items() if k!='ADVTRAIN_PRECISION'}
    env |= dict(ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    code = "import torch; from advtrain.train.precision import fast_dtype; print(fast_dtype(torch.device('cpu')))"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, env=env)
    assert (res.stdout,res.returncode)==('fp32\n',0), res.stderr
