"""What the parts share: memory of this process and its workers, and the speed of a loader."""
import threading,time
from pathlib import Path

import psutil

BS = 128
STATS = (.5,.5,.5),(.25,.25,.25) # the peers normalise with these; advtrain computes its own

def status_mb(*keys):
    "Read lines of /proc/self/status, in MB"
    lines = dict(o.split(':', 1) for o in Path('/proc/self/status').read_text().splitlines())
    return [int(lines[k].split()[0])*1024/1e6 for k in keys]

def memory():
    "Measure the resident memory of this process in MB: all of it, private, of files, and the peak of all"
    return dict(zip(
        ('resident_MB','anonymous_MB','of_files_MB','peak_MB'), status_mb('VmRSS','RssAnon','RssFile','VmHWM')))

class Workers:
    "Watch the private memory of this process's children"
    def __enter__(self):
        self.peak_mb,self._running = 0,True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *args):
        self._running = False
        self._thread.join()

    def _watch(self):
        while self._running:
            held = 0
            for p in psutil.Process().children(recursive=True):
                try: held += p.memory_full_info().uss/1e6
                except psutil.Error: pass # it has just ended
            self.peak_mb = max(self.peak_mb, held)
            time.sleep(.5)

def first_batch(loader):
    "Load one batch"
    for b in loader: return b

def loader_speed(loader, seconds, warm=3):
    "Measure the images/s of a loader: whole epochs until `seconds` are over, at most three times as long"
    def _epochs(end, last):
        n,whole = 0,True
        while time.perf_counter()<end:
            for b in loader:
                n += len(b[1])
                if time.perf_counter()>last:
                    whole = False
                    break
        return n,whole
    now = time.perf_counter()
    _epochs(now+warm, now+warm)
    start = time.perf_counter()
    n,whole = _epochs(start+seconds, start+3*seconds)
    return dict(images_per_s=n/(time.perf_counter()-start), whole_epochs=whole)

def with_workers(loader, seconds):
    "Measure the speed of a loader, and the memory of this process and its workers meanwhile"
    with Workers() as workers: speed = loader_speed(loader, seconds)
    return speed | memory() | dict(workers_MB=workers.peak_mb)
