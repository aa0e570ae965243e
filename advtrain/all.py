"""Every public name of advtrain, and albumentations as `A`, for interactive use: `from advtrain.all import *`."""
from .figures import *
from .batched import *
from .batched import A
from .augment import *
from .data import *
from .models import *
from .record import *
from .checkpoint import *
from .precision import *
from .training import *
from .profile import *
from .interpret import *
from .faithfulness import *
from .gradcam import *
from .experiment import *
from .report import *
from .cli import *
