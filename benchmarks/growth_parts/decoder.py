"""How fast Pillow decodes the same images with all cores, and does nothing else.

Each process opens 1,000 images at a time: `np.asarray(Image.open(file).convert('RGB'))`. Only that is timed. Bytes of
Parquet files and tar shards are in memory before; files are in the page cache, and opened by Pillow. The speed is the
images of a second of one process, times the number of processes.
"""
import io,multiprocessing,os,tarfile,time
from pathlib import Path

import numpy as np
from PIL import Image

def _decode(sources):
    "Decode some images; their number and the seconds"
    for o in sources:
        if isinstance(o, str): Path(o).read_bytes() # now it's in the page cache
    start = time.perf_counter()
    for o in sources: np.asarray(Image.open(o if isinstance(o, str) else io.BytesIO(o)).convert('RGB'))
    return len(sources),time.perf_counter()-start

def _group(args):
    "Decode a row group of a Parquet file"
    import pyarrow.parquet as pq
    file,i = args
    return _decode(pq.ParquetFile(file).read_row_group(i, ['image']).column('image').combine_chunks().field('bytes')
        .to_pylist())

def _shard(file):
    "Decode a tar shard"
    with tarfile.open(file) as tar:
        return _decode([tar.extractfile(o).read() for o in tar if o.name.endswith('.jpg')])

def _files(folder):
    names = [o.path for c in os.scandir(folder/'train') for o in os.scandir(c)]
    return [names[i:i+1000] for i in range(0, len(names), 1000)]

def _jobs(folder, kind):
    "A function, and what to call it with for all training images"
    if kind=='files': return _decode,_files(folder)
    if kind=='webdataset': return _shard,sorted(folder.glob('train*.tar'))
    import pyarrow.parquet as pq
    found = sorted((folder/'data').glob('train*.parquet'))
    return _group,[(o, i) for o in found for i in range(pq.ParquetFile(o).num_row_groups)]

def speed(folder, kind):
    "Measure images/s of Pillow over all cores"
    cores = os.cpu_count()
    function,jobs = _jobs(Path(folder), kind)
    with multiprocessing.get_context('forkserver').Pool(cores) as pool:
        done = list(pool.imap_unordered(function, jobs))
    images,seconds = map(sum, zip(*done))
    return dict(images=images, images_per_s=cores*images/seconds, processes=cores)
