import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A page of the documentation. */
export interface Page {
  /** From the root of the project. */
  readonly path: string;
  readonly text: string;
}

const read = (path: string): Page => ({ path, text: readFileSync(join(ROOT, path), 'utf8') });

export const README = read('README.md');
export const PAGES: readonly Page[] = readdirSync(join(ROOT, 'docs'))
  .filter((name) => name.endsWith('.md'))
  .map((name) => read(`docs/${name}`));

/** Texts of the repository beside the documentation. */
export const OTHER_PAGES: readonly Page[] = [
  ...['CHANGELOG.md', 'CONTRIBUTING.md', 'bench/README.md', 'examples/README.md'],
  ...readdirSync(join(ROOT, 'examples'), { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [`examples/${entry.name}/README.md`] : [],
  ),
].map(read);

/** The rows of the first table from a text on, without its head; cells have no quotes of code. */
export function tableOf({ text }: Page, from: string): string[][] {
  const [, after = ''] = text.split(from);
  const [table = ''] = `${from}${after}`.slice(from.startsWith('|') ? 0 : from.length).match(/(^\|.*\n)+/m) ?? [];
  const rows = table.trim().split('\n').slice(2);
  return rows.map((row) => row.split(' | ').map((cell) => cell.replace(/^\| | \|$|`/g, '')));
}

export const pageOf = (name: string): Page => PAGES.find(({ path }) => path === `docs/${name}.md`) as Page;

/** A block of code. */
export interface Block {
  readonly name: string;
  readonly language: string;
  readonly code: string;
  /** What other blocks import it as. */
  readonly module: string | undefined;
}

export const BLOCKS: readonly Block[] = [README, ...PAGES].flatMap(({ path, text }) =>
  [...text.matchAll(/^ *```(\w+)\n([\s\S]*?)^ *```/gm)].map(([, language = '', code = ''], index) => ({
    name: `${path.replace(/^docs\//, '').replace(/\.md$/, '')} ${index + 1}`,
    language,
    code,
    module: /^\/\/ ([\w-]+\.mjs)\n/.exec(code)?.[1],
  })),
);

/** Rows of the tables of a page whose first cell is code. */
export const codeRows = ({ text }: Page): string[] => text.split('\n').filter((line) => line.startsWith('| `'));

/** The anchors of a page, as VitePress and GitHub make them of headings. */
export function anchorsOf({ text }: Page): Set<string> {
  const plain = text.replace(/^ *```[\s\S]*?^ *```/gm, '');
  return new Set(
    [...plain.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[`*]/g, '')
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replace(/\s+/g, '-'),
    ),
  );
}
