"""Prepare every notebook for the site in `_proc`, like `nbdev_proc_nbs`, which would install Quarto first."""
import sys
from pathlib import Path

from nbdev.config import get_config
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs

def main():
    refresh_quarto_yml()
    made = Path(proc_nbs(force=True))
    source = get_config().nbs_path
    names = [
        o.relative_to(source) for o in source.rglob('*')
        if o.suffix in ('.ipynb','.md') and '.ipynb_checkpoints' not in o.parts]
    lost = [str(o) for o in names if not (made/o).is_file()]
    print(f'{len(names)-len(lost)} of {len(names)} pages in {made}')
    if lost: sys.exit(f"not in {made}: {', '.join(lost)}")

if __name__=='__main__': main()
