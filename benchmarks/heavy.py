"""Import what the GPU benchmarks need. If an import fails, the part that needs it will report it."""
import importlib,traceback

for name in ('albumentations','torch._dynamo','torch.profiler',
             'pytorch_grad_cam','torchcam.methods','sklearn.metrics','onnx','pytest'):
    try: importlib.import_module(name)
    except Exception: traceback.print_exc()
