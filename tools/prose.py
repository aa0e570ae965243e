"""Measure how the documents read: the README's words, lengths of sentences, and turns of phrase that we avoid. Exits
with 1 if a limit is passed.

    python tools/prose.py [FILE_OR_FOLDER ...] [--where]     # --where also prints the longest sentences
"""
import argparse,ast,io,json,re,sys,tokenize
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
README_WORDS = 900
MEDIAN = 15   # words in a sentence of the notebooks
THAT = 25     # of 100 sentences of the notebooks say "that"
AVOIDED = [ # patterns of the turns that CONTRIBUTING lists, with what we say instead
    r"(?<!there )\b(is|are|was|were|be|isn't) no (?!longer|more than|less than|slower|faster|better|worse|use)\w+",
    r'\bthat (is|are) no\b',
    r'\banew\b',
    r'\bby heart\b',
    r'\bgone? on with\b|\bgoes on as if\b',
    r'\bwhichever\b',
    r'\bare no more\b|\bis no more\b',
    r'\bas (it|they) comes?\b',
    r'\bat will\b',
    r'\bwhat (is|was) missing\b',
    r'\b(is|are) concerned\b',
    r'\bin vain\b',
    r'\bwhat there is\b',
    r'\bof (its|their) own\b',
    r'\bmend(s|ed|ing)?\b',
    r'\bfore(tell|told|see|saw|seen)\b',
    r'\b(has|have|takes?) its default\b',
    r'\btold nowhere\b|\bsaid nowhere\b',
    r'\bthereof\b|\btherein\b|\bwherein\b',
    r'\bcan be had\b',
    r'\bwants? (a|an|the|to be|its|two|one|names?)\b',
    r'\bnothing but\b',
]

def words_of(markdown):
    "The words of Markdown: without code, tags, and addresses of links and pictures"
    text = re.sub(r'```.*?(```|\Z)', '\n\n', markdown, flags=re.S)
    text = re.sub(r'<!--.*?-->|</?[a-z][^<>]*>', '', text, flags=re.S)
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', text)
    return re.sub('`[^`]*`', 'CODE', text)

def sentences(markdown):
    "The sentences of Markdown, of two words or more, without those in headings and tables"
    lines = [o for o in words_of(markdown).splitlines() if not o.lstrip().startswith(('|','#'))]
    text = '\n'.join(re.sub(r'^\s*([-*>]|\d+\.) ', '\n', o) for o in lines)
    paragraphs = [' '.join(o.split()) for o in re.split(r'\n\s*\n', text)]
    found = [s for o in paragraphs for s in re.split(r'(?<=[.!?])\s+(?=[A-Z“"\'(*])', o)]
    return [o for o in found if len(o.split())>1]

def cells(file):
    "Type and source of a notebook's cells"
    try: found = json.loads(file.read_text(encoding='utf-8'))['cells']
    except (ValueError, KeyError) as e: raise SystemExit(f"{file} isn't a notebook: {e!r}") from e
    return [(o['cell_type'],''.join(o['source'])) for o in found]

def strings(tree):
    "The strings of Python code, docstrings too; the values in f-strings become VALUE"
    within = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            within |= set(map(id, node.values))
            yield ''.join(o.value if isinstance(o, ast.Constant) else 'VALUE' for o in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.value

def python_text(source):
    "Strings and comments of Python code, in parts; all of it if it can't be parsed"
    code = '\n'.join('' if o.lstrip().startswith(('%','!')) else o for o in source.splitlines())
    try:
        tree = ast.parse(code)
        comments = [o.string.lstrip('# ') for o in tokenize.generate_tokens(io.StringIO(code+'\n').readline)
            if o.type==tokenize.COMMENT]
    except (SyntaxError, ValueError, tokenize.TokenError): return [code]
    return [*strings(tree), '\n'.join(comments)]

def prose(file):
    "What people read in a file, in parts"
    if file.suffix=='.ipynb':
        return [p for kind,o in cells(file) for p in ([words_of(o)] if kind=='markdown' else python_text(o))]
    source = file.read_text(encoding='utf-8')
    if file.suffix=='.md': return [words_of(source)]
    return python_text(source) if file.suffix=='.py' else [source]

def places(file):
    "The turns that we avoid in a file: the turn, and the words around it"
    for part in prose(file):
        text = ' '.join(part.split())
        for pattern in AVOIDED:
            for hit in re.finditer(pattern, text, re.I):
                yield hit.group(),text[max(hit.start()-40, 0):hit.end()+30]

WRITTEN = ('nbs/**/*.ipynb','nbs/**/*.md','*.md','benchmarks/*.md','benchmarks/**/*.py','tools/*.py','tests/*.py',
    'advtrain/pages/*.j2','advtrain/pages/*.js','advtrain/cli/run.py','advtrain/cli/shell.py','settings.ini')

def written():
    "The files that somebody wrote: not those that nbdev exports"
    files = {o for pattern in WRITTEN for o in ROOT.glob(pattern)}
    own = {ROOT/'tools/prose.py',ROOT/'CONTRIBUTING.md',ROOT/'tests/test_documents.py'} # they name the turns
    return sorted(o for o in files-own if '.ipynb_checkpoints' not in str(o))

def chosen(words):
    "The written files below some files or folders"
    roots = [Path(o).resolve() for o in words]
    files = [o for o in written() if not roots or any(o==r or r in o.parents for r in roots)]
    unknown = [str(r) for r in roots if not any(o==r or r in o.parents for o in files)]
    if unknown: raise SystemExit(f"{', '.join(unknown)}: no document there is measured")
    return files

def measured(files):
    "Sentences of the notebooks among some files"
    texts = [o for f in files if f.suffix=='.ipynb' for kind,o in cells(f) if kind=='markdown']
    return [s for o in texts for s in sentences(o)]

def says_that(sentence): return 'that' in re.findall(r"\w+", sentence.lower())

def main():
    args = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    args.add_argument('paths', nargs='*')
    args.add_argument('--where', action='store_true')
    args = args.parse_args()
    files = chosen(args.paths)
    found = [(o.relative_to(ROOT),*place) for o in files for place in places(o)]
    for file,turn,around in found: print(f'{file}: "{turn}": … {around} …')
    said = measured(files)
    if args.where:
        for s in sorted(said, key=lambda o: -len(o.split()))[:30]: print(len(s.split()), s)
    words = len((ROOT/'README.md').read_text(encoding='utf-8').split())
    typical = median(len(o.split()) for o in said) if said else 0
    that = 100*sum(map(says_that, said))/max(len(said), 1)
    print(f'README: {words} words (at most {README_WORDS})')
    print(f'notebooks: {len(said)} sentences, median {typical:g} words (at most {MEDIAN}), '
          f'{that:.0f} of 100 with "that" (at most {THAT})')
    print(f'turns that we avoid: {len(found)}')
    sys.exit(bool(found) or words>README_WORDS or typical>MEDIAN or that>THAT)

if __name__=='__main__': main()
