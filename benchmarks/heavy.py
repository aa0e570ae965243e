"""Import what the benchmarks of a GPU need; what cannot be imported is left to the part that needs it."""
import importlib,traceback

for name in ('albumentations','torch._dynamo','torch.profiler',
             'pytorch_grad_cam','torchcam.methods','sklearn.metrics','onnx','pytest'):
    try: importlib.import_module(name)
    except Exception: traceback.print_exc()
