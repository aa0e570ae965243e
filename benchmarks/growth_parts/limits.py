"""A process with little memory: a cgroup, version 1 or 2, if we may make one."""
import os,subprocess
from pathlib import Path

ROOT = Path('/sys/fs/cgroup')

class MemoryLimit:
    "A cgroup with a limit of memory, for the processes that `command` starts; raises an `OSError` without permission"
    def __init__(self, gigabytes):
        v1 = (ROOT/'memory/memory.limit_in_bytes').exists()
        self.folder = (ROOT/'memory' if v1 else ROOT)/f'advtrain_growth_{os.getpid()}'
        self.limit = 'memory.limit_in_bytes' if v1 else 'memory.max'
        self.peak = 'memory.max_usage_in_bytes' if v1 else 'memory.peak'
        self.bytes = int(gigabytes*1e9)

    def __enter__(self):
        self.folder.mkdir()
        try:
            (self.folder/self.limit).write_text(str(self.bytes))
            swap = self.folder/'memory.swap.max' # version 2 counts it apart
            if swap.exists(): swap.write_text('0')
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *args): self.folder.rmdir()

    def run(self, words, **kwargs):
        "Run a command in the group"
        procs = str(self.folder/'cgroup.procs')
        enter = 'echo $$ > "$0" && exec "$@"'
        return subprocess.run(['sh','-c',enter,procs,*words], **kwargs)

    def peak_mb(self):
        "Read the most memory that the group has used, page cache included"
        file = self.folder/self.peak
        return int(file.read_text())/1e6 if file.exists() else None

def files_below(folder): return [o for o in Path(folder).rglob('*') if o.is_file()]

def read_into_page_cache(folder):
    "Read files, so that the next process needs no disk"
    for file in files_below(folder):
        with open(file, 'rb') as f:
            while f.read(2**24): pass

def drop_from_page_cache(folder):
    "Ask the kernel to forget the pages of files, which a process outside may have read"
    os.sync() # pages that aren't written yet can't be dropped
    for file in files_below(folder):
        fd = os.open(file, os.O_RDONLY)
        try: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally: os.close(fd)
