"""Every public name of advtrain, and albumentations as `A`, for interactive use: `from advtrain.all import *`."""
from .lazy import * # first: what it lets wait would be imported in full otherwise
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
from .distributed import *
from .interpret import *
from .faithfulness import *
from .gradcam import *
from .choices import *
from .runs import *
from .compare import *
from .gallery import *
from .report import *
from .extras import *
from .overview import *
from .experiment import *
from .search import *
from .cli import *
