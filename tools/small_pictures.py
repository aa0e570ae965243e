#!/usr/bin/env python3
"""Shrink the pictures in the outputs of notebooks to 256 colours, so they're small enough to commit.

    python tools/small_pictures.py nbs/tutorials/cifar10.ipynb
"""
import argparse,base64,io,json
from pathlib import Path

from PIL import Image

def small(
    png:str, # Picture, base64
)->str: # Picture in 256 colours, if that's smaller
    "Reduce a picture"
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode=='P': return png # it has been reduced before
    picture = picture.convert('RGB').quantize(256, kmeans=10, dither=Image.Dither.NONE)
    picture.putpalette([255 if o>250 else o for o in picture.getpalette()]) # white stays white
    picture.save(buffer := io.BytesIO(), 'png', optimize=True)
    return min(png, base64.b64encode(buffer.getvalue()).decode(), key=len)

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('notebooks', nargs='+', type=Path, help='notebooks to change')
    for file in p.parse_args().notebooks:
        nb = json.loads(file.read_text(encoding='utf-8'))
        for data in (o['data'] for c in nb['cells'] for o in c.get('outputs', []) if 'image/png' in o.get('data', {})):
            data['image/png'] = small(''.join(data['image/png']))
        file.write_text(json.dumps(nb, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')
        print(f'{file}: {file.stat().st_size/1000:.0f} kB')

if __name__=='__main__': main()
