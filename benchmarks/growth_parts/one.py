"""Call one function of a part in this process, and write what it returns as JSON.

    python benchmarks/growth_parts/one.py MODULE:FUNCTION ARGUMENTS FILE
"""
import importlib,json,sys
from pathlib import Path

if __name__=='__main__':
    sys.path.insert(0, str(Path(__file__).parents[1]))
    module,name = sys.argv[1].split(':')
    found = getattr(importlib.import_module(f'growth_parts.{module}'), name)(**json.loads(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found), encoding='utf-8')
