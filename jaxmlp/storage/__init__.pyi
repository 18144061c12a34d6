from . import checkpoint as checkpoint
from . import compilation_cache as compilation_cache
from . import files as files
from . import run_folder as run_folder
from .checkpoint import Model as Model
from .checkpoint import load as load
from .checkpoint import save as save
from .compilation_cache import use_compilation_cache as use_compilation_cache
