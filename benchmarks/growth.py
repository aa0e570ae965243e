"""Claim: what a data set costs grows with disk and decoder, not with Python, up to 1.28 million images.

Made images of 32 pixels in 1,000 classes (`growth_parts/made.py`), as a folder of files, as Parquet and as tar shards.
For each number of images we measure, each in a fresh process that computes with one thread and decodes with all cores:

- how fast Pillow decodes the same images over all cores, and does nothing else
- advtrain's first start (empty cache) and second start: seconds, and resident memory
- images/s of advtrain's training loader with `cutout_augs`, and without augmentation
- the same of other libraries, which decode in each epoch: see `growth_parts/peers.py`
- with `--look`: interpretation and page of a run that tests a tiny network on that many images
- with `--limit 2`: training in a cgroup with 2 GB of memory, beside the same without a limit
- with `--kills 10`: the first start, killed ten times (`tests/killed_start.py`)

Whatever is measured is noted in `--out`, and not measured again. It also gets the data sets and caches: 30 GB for the
largest. Files may be in the page cache, for the decoder as for everybody else: it reads them first. Decoded images are
in it as well, but not with `--limit`. Times are medians over the rounds, ratios are within a round.

    python benchmarks/growth.py --out /tmp/growth [--sizes 10000 60000] [--kinds files parquet webdataset] [--rounds 1]
                                [--look] [--limit 2] [--kills 10] [--save]
"""
import argparse,json,os,shutil,subprocess,sys,tempfile
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
import torch
from growth_parts import made,summary
from growth_parts.limits import MemoryLimit,drop_from_page_cache,read_into_page_cache
from growth_parts.peers import PEERS
from keep import RESULTS,keep,with_save,write

SIZES = 10_000,30_000,60_000,100_000,300_000,1_281_167
PARTS = Path(__file__).parent/'growth_parts'
KILLED = Path(__file__).parents[1]/'tests/killed_start.py'
PACKAGES = 'fastai','torchvision','pillow','pyarrow','webdataset','datasets'

class Noted:
    "What has been measured, in a file"
    def __init__(self, file):
        self.file = file
        self.found = json.loads(file.read_text()) if file.exists() else {}

    def __call__(self, key, measure):
        "Measure what isn't noted yet; what fails is told, and measured again by the next call"
        if key in self.found: return
        try: self.found[key] = measure()
        except (OSError, subprocess.CalledProcessError) as e: return print(f'{key}: {last_line(e)}', flush=True)
        write(self.file, self.found)
        print(key, brief(self.found[key]), flush=True)

def last_line(e):
    "The last line of an error's own text, or of what a process printed"
    return (getattr(e, 'stderr', None) or str(e)).strip().splitlines()[-1]

def brief(found):
    "The numbers of a measurement that a reader looks for first"
    keys = 'images_per_s','start_s','first_batch_s','resident_MB','inference_s','write_report_s','page_MB','kills'
    found = found | found.get('loading', {})
    return ', '.join(f'{k} {found[k]:.4g}' for k in keys if isinstance(found.get(k), (int,float)))

def apart(function, home, run=subprocess.run, **kwargs):
    "Call a function of a part in a fresh process, with its own folder of caches"
    env = os.environ | dict(FASTAI_HOME=str(home), HF_HOME=str(home/'huggingface'), NO_ALBUMENTATIONS_UPDATE='1',
        HF_HUB_OFFLINE='1', HF_DATASETS_OFFLINE='1', MPLBACKEND='agg')
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp)/'result.json'
        words = [sys.executable, '-W', 'ignore', str(PARTS/'one.py'), function, json.dumps(kwargs), str(file)]
        run(words, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return json.loads(file.read_text())

class Set:
    "A data set, and the folders of its caches"
    def __init__(self, o, kind, n):
        self.o,self.kind,self.n = o,kind,n
        self.folder = made.data_set(o.out, n, kind)
        self.homes = Path(o.out)/'homes'/f'{kind}-{n}'

    def home(self, name, fresh=False):
        "The folder of caches of a library; a fresh one is empty"
        home = self.homes/name
        if fresh: shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        return home

    def decoder(self): return apart('decoder:speed', self.homes, folder=str(self.folder), kind=self.kind)

    def start(self): return apart('ours:start', self.home('advtrain', fresh=True), folder=str(self.folder))

    def decode(self):
        "Start once, if the decoded images are gone"
        if not any(self.home('advtrain').rglob('*.safetensors')): self.start()

    def load(self, augs=True):
        "Start again and load, with the decoded images in the page cache"
        self.decode()
        read_into_page_cache(self.home('advtrain'))
        return apart('ours:load', self.home('advtrain'), folder=str(self.folder), seconds=self.o.seconds, augs=augs)

    def peer(self, name, fresh):
        home = self.home(name, fresh)
        return apart('peers:load', home, folder=str(self.folder), kind=self.kind, peer=name, cache=str(home/'sets'),
            seconds=0 if fresh else self.o.seconds)

    def train(self, run=subprocess.run):
        "Train from a map that isn't in the page cache"
        self.decode()
        drop_from_page_cache(self.home('advtrain'))
        return apart('ours:train', self.home('advtrain'), run, folder=str(self.folder), seconds=self.o.seconds)

    def limited(self):
        "The same with little memory"
        with MemoryLimit(self.o.limit) as limit:
            return self.train(limit.run) | dict(group_MB=limit.peak_mb(), limit_GB=self.o.limit)

    def killed(self):
        "Kill the first start; what `tests/killed_start.py` found"
        words = str(KILLED),str(self.folder),str(self.home('killed', fresh=True)),str(self.o.kills)
        done = subprocess.run([sys.executable, '-W', 'ignore', *words], check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    def look(self):
        few = made.data_set(self.o.out, min(SIZES), self.kind)
        return apart('looking:look', self.home('look'), few=str(few), many=str(self.folder), kind=self.kind,
            folder=str(self.homes/'looked_at'))

def measure_round(o, noted, sets, i):
    "Measure starts of all sizes, then all loaders, one after the other"
    for s in sets:
        key = f'{s.kind}/{s.n}/{i}'
        noted(f'{key}/decoder', s.decoder)
        noted(f'{key}/advtrain, first start', s.start)
        for name in PEERS[s.kind]: noted(f'{key}/{name}, first start', lambda: s.peer(name, fresh=True)) # noqa: B023
    for s in sets:
        key = f'{s.kind}/{s.n}/{i}'
        noted(f'{key}/advtrain', s.load)
        noted(f'{key}/advtrain, no augmentation', lambda: s.load(augs=False)) # noqa: B023
    for s in sets:
        for name in PEERS[s.kind]: noted(f'{s.kind}/{s.n}/{i}/{name}', lambda: s.peer(name, fresh=False)) # noqa: B023

def measure(o, noted):
    "Measure all that is asked for"
    for kind in o.kinds:
        sets = [Set(o, kind, n) for n in o.sizes]
        for i in range(o.rounds): measure_round(o, noted, sets, i)
        largest = sets[-1]
        if o.limit:
            noted(f'{kind}/{largest.n}/0/without limit', largest.train)
            noted(f'{kind}/{largest.n}/0/with limit', largest.limited)
        if o.kills: noted(f'{kind}/{largest.n}/0/killed', largest.killed)
    if not o.look: return
    for n in o.sizes: noted(f'{o.kinds[0]}/{n}/0/look', Set(o, o.kinds[0], n).look)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', required=True, help='folder for data sets, caches and what has been measured')
    p.add_argument('--sizes', type=int, nargs='+', default=SIZES, help='numbers of images, rising')
    p.add_argument('--kinds', nargs='+', default=list(PEERS), choices=list(PEERS), help='kinds of data sets')
    p.add_argument('--rounds', type=int, default=1, help='number of rounds')
    p.add_argument('--seconds', type=float, default=20, help='least time for each loader')
    p.add_argument('--look', action='store_true', help='also measure interpretation and page')
    p.add_argument('--limit', type=float, help='also train the largest set with so many GB of memory')
    p.add_argument('--kills', type=int, help='also kill the first start of the largest set so many times')
    o = with_save(p).parse_args()
    torch.set_num_threads(1)
    noted = Noted(Path(o.out)/'measured.json')
    measure(o, noted)
    numbers = summary.gathered(noted.found)
    summary.show(numbers)
    keep(o.save, numbers, *PACKAGES)
    summary.picture(numbers, (RESULTS if o.save else Path(o.out))/'growth.png')

if __name__=='__main__': main()
