"""Make data sets of any number of images of 32 pixels in 1,000 classes, as files, Parquet or tar shards of WebDataset.

Image `i` is of class `i % 1000`, and depends on `i` alone: its class gives the colours, a hash of `i` the rest. So no
two images have the same pixels, a network can learn the classes, and the first images of a larger set are those of a
smaller one. Every 20th image of a class is a test image. A set that exists is not made again, and an interrupted call
resumes.

    python benchmarks/growth_parts/made.py /tmp/growth --images 1281167 --kinds files parquet webdataset
"""
import argparse,io,json,multiprocessing,os,tarfile,time
from pathlib import Path

import cv2
import numpy as np

CLASSES = 1000
TEST_EVERY = 20 # images of a class
QUALITY = 90 # of the JPEG files
SHARD = dict(parquet=100_000, webdataset=10_000) # images in a file
FOLDERS = dict(files=('train','test'), parquet=('data',), webdataset=('.',)) # below the folder of a set
NAMES = [f'class_{c:03}' for c in range(CLASSES)]

def _mixed(x):
    "Hash 64-bit numbers: splitmix64"
    x = (x ^ x>>np.uint64(30))*np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x>>np.uint64(27))*np.uint64(0x94D049BB133111EB)
    return x ^ x>>np.uint64(31)

def _hashed(numbers, words):
    "Get `words` hashes of each number, shape (numbers, words)"
    numbers = np.asarray(numbers, np.uint64)[:,None]*np.uint64(words)
    return _mixed((numbers+np.arange(1, words+1, dtype=np.uint64))*np.uint64(0x9E3779B97F4A7C15))

def made_pixels(
    images, # Numbers of the images
): # Their pixels before compression, uint8, shape (images, 32, 32, 3)
    "Draw images: blocks of 8×8 pixels tell the class, blocks of 4×4 pixels the image"
    images = np.asarray(images, np.uint64)
    of_class = _hashed(images%np.uint64(CLASSES)+np.uint64(10**15), 6).view(np.uint8).reshape(-1, 4, 4, 3)
    own = _hashed(images, 24).view(np.uint8).reshape(-1, 8, 8, 3)
    small = of_class.repeat(2, 1).repeat(2, 2)//2 + own//2
    return small.repeat(4, 1).repeat(4, 2)

def encoded(
    images, # Numbers of the images
): # Yields their JPEG files as bytes
    "Compress images"
    for x in made_pixels(images):
        _,data = cv2.imencode('.jpg', x[...,::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        yield data.tobytes()

def is_test(images): return images//CLASSES%TEST_EVERY==0

def _of_split(n, split):
    images = np.arange(n)
    return images[is_test(images)==(split=='test')]

def _class_folders(args):
    "Write the files of a class"
    folder,n,c = args
    if (folder/'test'/NAMES[c]).exists(): return # written last
    for split in ('train','test'):
        images = np.arange(c, n, CLASSES)
        images = images[is_test(images)==(split=='test')]
        aside = folder/f'.{split}_{NAMES[c]}'
        aside.mkdir(exist_ok=True)
        for i,data in zip(images, encoded(images)): (aside/f'{i:07}.jpg').write_bytes(data)
        if len(images): aside.replace(folder/split/NAMES[c])

def _parquet_schema():
    import pyarrow as pa
    features = dict(image={'_type': 'Image'}, label=dict(names=NAMES, _type='ClassLabel'))
    return pa.schema(
        [('image', pa.struct([('bytes', pa.binary()), ('path', pa.string())])), ('label', pa.int64())],
        metadata={'huggingface': json.dumps(dict(info=dict(features=features)))})

def _parquet_file(args):
    "Write a Parquet file as Hugging Face does: a struct of bytes and path, and a label with its names in the schema"
    import pyarrow as pa
    import pyarrow.parquet as pq
    file,images = args
    if file.exists(): return
    aside = file.with_name(f'.{file.name}')
    schema = _parquet_schema()
    with pq.ParquetWriter(aside, schema) as writer:
        for part in np.split(images, range(1000, len(images), 1000)):
            rows = [dict(bytes=data, path=f'{i:07}.jpg') for i,data in zip(part, encoded(part))]
            writer.write_table(pa.table([pa.array(rows, schema.field(0).type), part%CLASSES], schema=schema))
    aside.replace(file)

def _tar_shard(args):
    "Write a shard: a `.jpg` and a `.cls` per image"
    file,images = args
    if file.exists(): return
    aside = file.with_name(f'.{file.name}')
    with tarfile.open(aside, 'w', format=tarfile.USTAR_FORMAT) as tar:
        for i,data in zip(images, encoded(images)):
            for suffix,content in (('jpg', data),('cls', b'%d' % (i%CLASSES))):
                member = tarfile.TarInfo(f'{i:07}.{suffix}')
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    aside.replace(file)

def _shards(folder, n, kind):
    "List the files of a set with their images"
    res = []
    for split in ('train','test'):
        images = _of_split(n, split)
        parts = np.split(images, range(SHARD[kind], len(images), SHARD[kind]))
        for i,part in enumerate(parts):
            name = f'data/{split}-{i:05}-of-{len(parts):05}.parquet' if kind=='parquet' else f'{split}-{i:06}.tar'
            res.append((folder/name, part))
    return res

def data_set(
    root, # Folder of all sets
    n, # Number of images
    kind, # 'files', 'parquet' or 'webdataset'
): # Folder of the set
    "Make a data set, unless it exists"
    folder = Path(root)/f'{kind}-{n}'
    if folder.exists(): return folder
    aside = folder.with_name(f'{folder.name}.part')
    for o in FOLDERS[kind]: (aside/o).mkdir(parents=True, exist_ok=True)
    jobs = [(aside, n, c) for c in range(min(n, CLASSES))] if kind=='files' else _shards(aside, n, kind)
    function = dict(files=_class_folders, parquet=_parquet_file, webdataset=_tar_shard)[kind]
    with multiprocessing.get_context('fork').Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(function, jobs): pass
    aside.replace(folder)
    return folder

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('root', help='folder of the data sets')
    p.add_argument('--images', type=int, nargs='+', required=True, help='numbers of images')
    p.add_argument('--kinds', nargs='+', default=['files','parquet','webdataset'], help='kinds of data sets')
    o = p.parse_args()
    cv2.setNumThreads(1)
    for n in o.images:
        for kind in o.kinds:
            start = time.perf_counter()
            print(data_set(o.root, n, kind), f'{time.perf_counter()-start:.1f} s', flush=True)

if __name__=='__main__': main()
