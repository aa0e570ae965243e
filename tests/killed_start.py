"""Kill the first start on a data set repeatedly, and check that the next one goes on with what was written.

    python tests/killed_start.py DATA HOME KILLS [SIZE]

Each start runs in its own process, and is killed with SIGKILL when the map of its images on disk has some more blocks:
the first time with its worker processes, then alone, and so on. Workers that are left end before the next start, but
those of the last kill write on beside the start that isn't killed. The images have SIZE pixels a side. Prints what
happened as JSON.
"""
import contextlib,json,os,signal,struct,sys,time
from pathlib import Path

if __name__=='__main__': os.environ['OMP_NUM_THREADS'] = '1'
import numpy as np

from advtrain.all import image_dls
from advtrain.data.images import open_rgb
from advtrain.files import make_once

COMPARED = 200 # batches of each loader, at most
FOLDER = 'advtrain_images' # of the maps

def map_file(home):
    "The map of decoded images in `home`; `None` before there is one"
    return next((Path(home)/FOLDER).glob('*.safetensors'), None)

def blocks(home):
    "The digest of each block in the map, 0 for one that isn't written; empty before there is a map"
    try:
        with open(map_file(home), 'rb') as f:
            size, = struct.unpack('<Q', f.read(8))
            start,end = json.loads(f.read(size))['blocks']['data_offsets']
            f.seek(8+size+start)
            return np.frombuffer(f.read(end-start), np.uint32)
    except (TypeError, OSError, struct.error, ValueError, KeyError): return np.empty(0, np.uint32)

def written(home): return int(np.count_nonzero(blocks(home)))

def keep_in(home):
    "Keep decoded images of this process in `home`"
    class Config:
        def path(self, name): return Path(home)
    make_once.fastai_cfg = Config

def forked(data, home, size):
    "Start in another process; its id"
    pid = os.fork()
    os.setpgid(pid, pid or os.getpid()) # both do this, so that the group is there for both
    if pid: return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        keep_in(home)
        image_dls(data, size=size, device='cpu')
        code = 0
    finally: os._exit(code)

def attempt(data, home, size, goal, together):
    "Start, and kill it when `goal` blocks are written: its id if it was killed, and the fewest blocks meanwhile"
    fewest = written(home)
    pid = forked(data, home, size)
    while True:
        now = written(home)
        fewest = min(fewest, now)
        if now>=goal: (os.killpg if together else os.kill)(pid, signal.SIGKILL)
        found,status = os.waitpid(pid, 0 if now>=goal else os.WNOHANG)
        if found: break
        time.sleep(.001)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0,-signal.SIGKILL): raise RuntimeError(f'a start failed after {fewest} blocks')
    return pid if code else None,fewest

def kill_all(data, home, kills, size, res):
    "Kill starts, each some blocks further than the one before; the id of the last one"
    killed = None
    while res['kills']<kills:
        end_workers(killed)
        before = written(home)
        left = len(blocks(home))-before
        goal = before+max(1, left//(kills-res['kills']+1))
        killed,fewest = attempt(data, home, size, goal, together=res['kills']%2==0)
        if not killed: # it was faster than this process: once more from the beginning
            res['finished'] += 1
            map_file(home).unlink()
            continue
        res['kills'] += 1
        res['lost'] += before-fewest
        res['written'].append(written(home))
    return killed

def end_workers(pid):
    "End what the process `pid` has left behind"
    with contextlib.suppress(TypeError, ProcessLookupError): os.killpg(pid, signal.SIGKILL)

def as_pixels(x, stats):
    "Undo the normalisation of a batch: uint8, shape (images, height, width, 3)"
    mean,std = [np.array(o).reshape(1, 3, 1, 1) for o in stats]
    return (255*(np.asarray(x, np.float64)*std+mean)).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

def compare(dls, res):
    "Compare batches with the same images, decoded again"
    for dl in (dls.train.new(shuffle=False), *dls.loaders[1:]):
        every = -(-len(dl)//COMPARED)
        for i,(x,_) in enumerate(dl):
            if i%every: continue
            files = [dl.items[j] for j in range(i*dl.bs, i*dl.bs+len(x))]
            right = np.stack([np.asarray(open_rgb(o)) for o in files])
            res['compared'] += len(x)
            res['different'] += int((as_pixels(x, dls.stats)!=right).any((1,2,3)).sum())

def main(data, home, kills, size=32):
    res = dict(kills=0, finished=0, lost=0, written=[], compared=0, different=0)
    last = kill_all(data, home, kills, size, res)
    keep_in(home)
    begin = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr): dls = image_dls(data, size=size, device='cpu')
    end_workers(last)
    left = int((blocks(home)==0).sum())
    res |= dict(last_start_s=time.perf_counter()-begin, blocks=len(blocks(home)), unwritten=left)
    compare(dls, res)
    print(json.dumps(res))

if __name__=='__main__': main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(int, sys.argv[4:]))
