"""Packaging: everything is read from settings.ini, so that nbdev and pip agree."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages,setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
# search_requirements and its like become extras; `all` has those of users and what tests need, `dev` has everything
extras = {k.removesuffix('_requirements'): v.split() for k,v in cfg.items() if k.endswith('_requirements')}
extras['all'] = sorted({o for k,v in extras.items() for o in v if k not in ('lint','dev')})
extras['dev'] = sorted({o for v in extras.values() for o in v})

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], license='Apache-2.0',
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], keywords=cfg['keywords'],
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    packages=find_packages(include=['advtrain', 'advtrain.*']),
    package_data={'advtrain.data': ['*.tar.xz'], 'advtrain.pages': ['*.j2', '*.css', '*.js']},
    python_requires='>=' + cfg['min_python'], zip_safe=False,
    install_requires=cfg['requirements'].split(), extras_require=extras,
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research',
                 'Programming Language :: Python :: 3.11', 'Programming Language :: Python :: 3.12',
                 'Programming Language :: Python :: 3.13'],
)
