"""Keep the numbers of a benchmark in `benchmarks/results/`, with the command and the machine that made them.

A script passes its parser to `with_save` and its numbers to `keep`; `timed` measures a part of it. `make figures` makes
the README's table from these files.
"""
import json,os,platform,re,shlex,statistics,sys,time
from datetime import date
from pathlib import Path

import torch

from advtrain.launch.environment import cpu_model,package_version
from advtrain.train.precision import cpu_instructions

RESULTS = Path(__file__).with_name('results')

def with_save(parser):
    "Add the option `--save`"
    parser.add_argument('--save', action='store_true', help='keep the numbers in benchmarks/results')
    return parser

def over(values):
    "Compute median, lowest and highest of some values"
    values = list(values)
    return dict(median=statistics.median(values), low=min(values), high=max(values), n=len(values))

def timed(f, seconds):
    "Make a function that calls `f`, and adds the time it takes to the list `seconds`"
    def _f(*args):
        start = time.perf_counter()
        try: return f(*args)
        finally: seconds.append(time.perf_counter()-start)
    return _f

def machine():
    "Describe the machine that the numbers depend on"
    gpu = dict(gpu=torch.cuda.get_device_name()) if torch.cuda.is_available() else {}
    return dict(cpu=cpu_model(), instructions=cpu_instructions(), cores=os.cpu_count(), threads=torch.get_num_threads(),
        **gpu, python=platform.python_version())

def command():
    "Get the command, with only the names of data and folders, and the settings that imitate an older processor"
    words = ' '.join(shlex.quote(o) for o in sys.argv[1:] if o!='--save')
    words = re.sub(r'(?<![^\s=])[^\s=]*/', '', words)
    older = ''.join(f'{o}={os.environ[o]} ' for o in ('ATEN_CPU_CAPABILITY','ONEDNN_MAX_CPU_ISA') if o in os.environ)
    return f'{older}python benchmarks/{Path(sys.argv[0]).name} {words}'.strip()

def about(
    *packages, # Packages whose versions matter, besides torch
):
    "Describe what made the numbers: command, date, machine and versions"
    versions = {o: package_version(o) for o in ('torch',*packages)}
    return dict(command=command(), date=date.today().isoformat(), machine=machine(), versions=versions)

def write(
    file, # JSON file
    results, # Content of the file
):
    "Write a file of results, never half-written: it holds the old ones or the new ones"
    aside = file.with_name(f'.{file.name}.tmp')
    aside.write_text(json.dumps(results, indent=2, ensure_ascii=False, default=str)+'\n', encoding='utf-8')
    os.replace(aside, file)

def keep(
    asked, # Was `--save` given?
    numbers, # What JSON can hold, by name
    *packages, # Packages whose versions matter, besides torch
    name=None, # Name of the file; default: the name of the script
):
    "Write `numbers` to a file of results; processors without bf16 get a separate file"
    if not asked: return
    made = about(*packages)
    RESULTS.mkdir(exist_ok=True)
    kind = ('' if 'gpu' in made['machine'] or made['machine']['instructions'].endswith('BF16') else
        f"-{made['machine']['instructions'].lower()}")
    file = RESULTS/f'{name or Path(sys.argv[0]).stem}{kind}.json'
    write(file, made | dict(numbers=numbers))
    print(f'kept in benchmarks/results/{file.name}')
