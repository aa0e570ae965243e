"""Every public name of advtrain, for interactive use: `from advtrain.all import *`."""
from .figures import *
from .augment import *
from .data import *
from .models import *
from .training import *
from .interpret import *
from .gradcam import *
from .experiment import *
from .report import *
from .cli import *
