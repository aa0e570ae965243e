"""One call for a machine with a GPU: what works, where a step waits, how fast it is, and runs of forty epochs.

The most valuable parts run first, each in its own process with its own time limit. A part that wouldn't end in time
isn't started. A part that fails or hangs doesn't affect the others, and keeps what it has measured. The folder gets
one file per part, the finished runs in an archive, and everything printed. A later call with `--done` does the rest.

    python benchmarks/gpu.py --data cifar10.tgz --out benchmarks/results/gpu --seconds 540 [--done FOLDER]
    python benchmarks/gpu.py --rehearse --out FOLDER       # the same on a CPU, tiny
"""
import argparse,json,os,shutil,signal,tarfile,tempfile,time
from collections import namedtuple
from contextlib import suppress
from functools import partial
from pathlib import Path

import apart,forty

Part = namedtuple('Part', 'name seconds module')
SECONDS = dict(works=90, waits=45, step=120, whole_run=120, maps=40, together=90)
PARTS = [Part(name, seconds, f'gpu_parts.{name}') for name,seconds in SECONDS.items()]
FILES = [f'{o.name}.json' for o in PARTS] + ['runs.tar.gz','log.txt']
PACKING = 5 # seconds kept for the archive and the table
LOG_LIMIT = 15_000_000 # bytes

def read(file):
    "Read what a part has noted; an empty dictionary without a file"
    try: noted = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError): return {}
    return noted if isinstance(noted, dict) else {}

class Call:
    "Run parts in turn, within a time limit"
    def __init__(self,
        out:Path, # Folder for results
        work:Path, # Folder for temporary files
        seconds:float, # Time for all parts
        **options, # Options of every part
    ):
        self.out,self.work,self.ends,self.ended = out,work,time.monotonic()+seconds,{}
        self.runs,self.log,self.archive = work/'runs',out/'log.txt',out/'runs.tar.gz'
        self.options = dict(data=None, device='cpu', tiny=True, hang=None, crash=None)
        self.options |= dict(out=str(out), work=str(work), runs=str(self.runs)) | options
        for o in (out, self.runs): o.mkdir(parents=True, exist_ok=True)

    def left(self): return self.ends-time.monotonic()-PACKING

    def take_over(self, done):
        "Copy the results of an earlier call"
        for name in FILES if done.resolve()!=self.out else []:
            if (done/name).is_file(): shutil.copyfile(done/name, self.out/name)
        try: forty.unpack(self.archive, self.runs)
        except (OSError, EOFError, tarfile.TarError) as e:
            self.say(f"can't read the archive of the earlier call, so its runs are done again: {e}")

    def say(self, line):
        print(line, flush=True)
        with suppress(OSError),open(self.log, 'a', encoding='utf-8') as f: f.write(f'\n=== {line}\n')

    def run(self, parts):
        "Run the parts that aren't complete and can end in time"
        for part in parts:
            self.ended[part.name] = 'stopped'
            if read(self.out/f'{part.name}.json').get('complete'): self.ended[part.name] = 'done before'
            elif self.left()<part.seconds: self.ended[part.name] = f'not started, only {self.left():.0f} s left'
            else: self.ended[part.name] = self.run_part(part)
            self.say(f'{part.name}: {self.ended[part.name]}')

    def run_part(self, part):
        "Run a part and describe how it ended"
        options = self.options | dict(name=part.name, seconds=part.seconds)
        start = time.monotonic()
        try: call = apart.Apart('gpu_parts:run_part', part.module, options, log=self.log)
        except (OSError, EOFError) as e: return f"couldn't start: {e!r}"
        try: call.over(min(part.seconds, self.left()))
        finally: call.end()
        self.pack()
        return f'{call.how()} after {time.monotonic()-start:.0f} s'

    def queue(self, plan):
        "Run the experiments of a plan in the time left, as many at once as was measured best"
        def _numbers(part): return read(self.out/f'{part}.json').get('numbers', {})
        together = _numbers('together')
        jobs = together.get('best_jobs', 1)
        estimate = _numbers('whole_run').get('seconds_a_run')
        if estimate and not self.options['tiny']: estimate *= together.get('slowdown', 1)
        else: estimate = None
        how = dict(jobs=jobs, estimate=estimate, log=self.log, done=self.pack, say=self.say)
        forty.Queue(plan, self.options['data'], self.runs, self.left(), **how).run()

    def pack(self):
        "Put the finished runs into the archive"
        try:
            if any(self.runs.iterdir()): forty.pack(self.runs, self.archive)
        except OSError as e: self.say(f"can't write the archive: {e}")

    def tidy(self):
        "Remove half-written files, and the middle of a long log"
        for name in FILES: (self.out/f'.{name}.tmp').unlink(missing_ok=True)
        if not self.log.is_file() or self.log.stat().st_size<=LOG_LIMIT: return
        text = self.log.read_bytes()
        self.log.write_bytes(text[:LOG_LIMIT//2] + b'\n\n... left out ...\n\n' + text[-LOG_LIMIT//2:])

    def table(self, parts):
        "Format the main figures of each part and the accuracy of each run"
        lines = []
        for part in parts:
            lines.append(f"\n{part.name}: {self.ended.get(part.name, 'not started')}")
            figures = read(self.out/f'{part.name}.json').get('figures', {})
            lines += [f'  {label:60} {value}' for label,value in figures.items()]
        lines.append('\nruns')
        for file in sorted(self.runs.glob('*/metrics.json')):
            m = read(file)
            what = f"{m['test_accuracy']:.2%} of the test images, {m['epochs']} epochs, {m['seconds']:.0f} s"
            lines.append(f'  {file.parent.name:60} {what}')
        return '\n'.join(lines)

def options():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help='folder or archive of CIFAR-10; default: the Fashion-MNIST sample')
    p.add_argument('--out', type=Path, required=True, help='folder for the results, eight files at most')
    p.add_argument('--seconds', type=float, default=540, help='time limit in seconds')
    p.add_argument('--done', type=Path, help='folder of an earlier call; what is complete there is skipped')
    p.add_argument('--rehearse', action='store_true', help='the same with tiny networks on a CPU')
    for name in ('hang','crash'): p.add_argument(f'--{name}', metavar='PART', help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.out.exists() and not o.out.is_dir(): p.error(f'{o.out} is a file')
    if o.done and not o.done.is_dir(): p.error(f'no such folder: {o.done}')
    if o.data and not Path(o.data).exists(): p.error(f'no such file or folder: {o.data}')
    same = o.done and o.done.resolve()==o.out.resolve()
    if not same and any((o.out/name).exists() for name in FILES):
        p.error(f'{o.out} holds an earlier call: resume it with --done {o.out}, or choose another folder')
    return o

def main():
    o = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if o.rehearse: os.environ['CUDA_VISIBLE_DEVICES'] = ''
    apart.prepare()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        data = o.data and str(Path(o.data).resolve())
        how = dict(device='cpu' if o.rehearse else 'cuda', tiny=o.rehearse, hang=o.hang, crash=o.crash)
        call = Call(o.out.resolve(), Path(work), o.seconds, data=data, **how)
        if o.done: call.take_over(o.done)
        try:
            call.run(PARTS)
            call.queue(partial(forty.plan, 'tiny' if o.rehearse else 'full'))
        except KeyboardInterrupt: call.say('stopped')
        finally:
            call.pack()
            call.tidy()
            print(call.table(PARTS), flush=True)

if __name__=='__main__': main()
