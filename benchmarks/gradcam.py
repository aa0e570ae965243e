"""Claim: heat maps at least 5 times faster than pytorch-grad-cam's for several layers, 2.5 times for one, and no slower
than torch-cam's.

All compute GradCAM of the same random images with the same ResNet-18 in fp32, with the same batch size, and give maps
of the images' size. pytorch-grad-cam is called once per layer, because a call with several layers gives only their
average; torch-cam and advtrain compute all layers in one pass. advtrain also runs in the precision that its learners
train in. Peers take turns for several rounds. Figures are medians, ratios are within a round. Peak memory is measured
in separate processes, above what they need before the first call.

    python benchmarks/gradcam.py [--rounds 5] [--device cpu]
"""
import argparse,copy,os,platform,statistics,subprocess,sys,time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
import pytorch_grad_cam
import torch
import torchcam.methods
from keep import keep,over,with_save
from advtrain.look.gradcam import GradCAM
from advtrain.models import resnet18
from advtrain.train.precision import DTYPES,fast_dtype
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn import functional as F

LAYERS,BS = ['layer1','layer2','layer3','layer4'],128

def batches(x, targets):
    for i in range(0, len(x), BS): yield x[i:i+BS],targets[i:i+BS]

def with_grad_cam(model, layers, x, targets):
    "Compute maps with pytorch-grad-cam, shape (layers, images, height, width)"
    modules,maps = dict(model.named_modules()),[]
    for layer in layers:
        with pytorch_grad_cam.GradCAM(model, [modules[layer]]) as cam:
            maps.append(torch.cat([
                torch.as_tensor(cam(xb, [ClassifierOutputTarget(t) for t in tb])) for xb,tb in batches(x, targets)]))
    return torch.stack(maps)

def with_torch_cam(model, layers, x, targets):
    "Compute maps with torch-cam, enlarged to the size of the images"
    parts = []
    with torchcam.methods.GradCAM(model, layers) as cam:
        for xb,tb in batches(x, targets):
            maps = cam(tb, model(xb))
            parts.append(torch.stack([
                F.interpolate(m[None], x.shape[2:], mode='bilinear', align_corners=False)[0] for m in maps]))
    return torch.cat(parts, 1)

def with_advtrain(model, layers, x, targets): return GradCAM(model, layers, bs=BS)(x, targets)

def as_trained(model, layers, x, targets):
    "Compute maps with advtrain, in the precision and layout that its learners train in"
    with torch.autocast(x.device.type, DTYPES[fast_dtype(x.device)], enabled=fast_dtype(x.device)!='fp32'):
        return with_advtrain(model, layers, x, targets)

PEERS = {
    'pytorch-grad-cam': with_grad_cam,
    'torch-cam': with_torch_cam,
    'advtrain, fp32': with_advtrain,
    'advtrain, as trained': as_trained,
}

def make(n, device):
    "Make a model, its copy with channels last, images, and targets"
    torch.manual_seed(0)
    model = resnet18().eval().to(device)
    return (model, copy.deepcopy(model).to(memory_format=torch.channels_last),
        torch.randn(n, 3, 32, 32, device=device), torch.randint(10, (n,)).tolist())

def timed(f, device):
    start = time.perf_counter()
    res = f()
    if device=='cuda': torch.cuda.synchronize()
    return time.perf_counter()-start,res

def race(n, layers, rounds, device):
    "Measure the seconds of each peer in each round, and get its maps"
    model,last,x,targets = make(n, device)
    def call(name):
        net = last if name=='advtrain, as trained' else model
        return timed(lambda: PEERS[name](net, layers, x, targets), device)
    maps = {name: call(name)[1].cpu() for name in PEERS} # the first call warms up
    return [{name: call(name)[0] for name in PEERS} for _ in range(rounds)],maps

def peak(name, n, device):
    "Measure the MB that a call takes beyond what its separate process needs before"
    out = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--device', device, '--peak', name, str(n)],
        check=True, capture_output=True, text=True).stdout
    return float(out.split()[-1])

def measure_peak(name, n, device):
    "Print the peak memory of a call; on a CPU from Linux's count of the pages of the process"
    model,last,x,targets = make(n, device)
    model,run = (last if name=='advtrain, as trained' else model),PEERS[name]
    def _high():
        if device=='cuda': return torch.cuda.max_memory_allocated()/1e6
        return next(
            int(o.split()[1])/1e3 for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('VmHWM'))
    run(model, ['layer4'], x[:2], targets[:2])
    torch.cuda.reset_peak_memory_stats() if device=='cuda' else Path('/proc/self/clear_refs').write_text('5')
    before = _high()
    run(model, ['layer4'], x, targets)
    print(_high()-before)

def report(title, rounds, maps):
    "Print milliseconds, ratios and differences of maps, and return the first two"
    print(f'\n{title}')
    for name in PEERS: print(f'  {name:24} {1e3*statistics.median(r[name] for r in rounds):9,.0f} ms')
    ratios = {}
    for of in ('advtrain, fp32','advtrain, as trained'):
        for to in ('pytorch-grad-cam','torch-cam'):
            r = ratios[f'{of} / {to}'] = over(r[to]/r[of] for r in rounds)
            print(f"  {of} / {to}: {r['median']:.2f} times as fast (from {r['low']:.2f} to {r['high']:.2f})")
    for name in ('pytorch-grad-cam','advtrain, as trained'):
        d = (maps[name]-maps['advtrain, fp32']).abs()
        print(f"  maps of {name}, from advtrain's in fp32: mean {d.mean():.1e}, largest {d.max():.1e}")
    return dict(ms={name: over(1e3*r[name] for r in rounds) for name in PEERS}, ratios=ratios)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('--rounds', type=int, default=5, help='number of rounds')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cuda or cpu')
    p.add_argument('--peak', nargs=2, help=argparse.SUPPRESS)
    o = with_save(p).parse_args()
    if o.peak: return measure_peak(o.peak[0], int(o.peak[1]), o.device)
    print(f"{torch.cuda.get_device_name() if o.device=='cuda' else platform.processor() or platform.machine()}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"grad-cam {version('grad-cam')}, torchcam {version('torchcam')}, {o.rounds} rounds, "
          f"as trained: {fast_dtype(torch.device(o.device))}, channels-last")
    numbers = {}
    for name,title,n,layers,rounds in (
            ('four_layers','20 images, 4 layers',20,LAYERS,o.rounds),
            ('one_layer','1,000 images, layer4',1000,LAYERS[-1:],max(1, o.rounds//2))):
        numbers[name] = report(title, *race(n, layers, rounds, o.device))
    print(f'\nPeak memory of a call at layer4 in batches of {BS}, MB')
    numbers['peak_MB'] = {name: {n: peak(name, n, o.device) for n in (256,1000)} for name in PEERS}
    for name,peaks in numbers['peak_MB'].items():
        print(f'  {name:24} ' + ', '.join(f'{n:,} images {v:,.0f}' for n,v in peaks.items()))
    keep(o.save, numbers, 'grad-cam', 'torchcam')

if __name__=='__main__': main()
