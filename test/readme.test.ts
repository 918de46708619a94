import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { OPTION_NAMES } from '../dist/engine/options.js';
import { createEngine, ERROR_CODES } from '../dist/index.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** A user's folder: the package is installed in it. */
const USER = join(ROOT, '.cache', 'readme');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

const blocksOf = (text: string, name: string) =>
  [...text.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language = '', code = ''], index) => ({
    name: `${name} ${index + 1}`,
    language,
    code,
    /** What others import it as. */
    module: /^\/\/ ([\w-]+\.mjs)\n/.exec(code)?.[1],
  }));

const blocks = blocksOf(README, 'block');
const pages = readdirSync(join(ROOT, 'docs')).map((name) => ({
  name,
  text: readFileSync(join(ROOT, 'docs', name), 'utf8'),
}));
const ofPages = pages.flatMap(({ name, text }) => blocksOf(text, name));

/** What a shell command of the README must be, to be true. */
const COMMANDS: Readonly<Record<string, () => void>> = {
  'npm install infermux onnxruntime-node': () => {
    expect(PACKAGE.name).toBe('infermux');
    const isOptional = (name: string) => PACKAGE.peerDependenciesMeta[name]?.optional === true;
    expect(Object.keys(PACKAGE.peerDependencies).filter((name) => !isOptional(name))).toEqual(['onnxruntime-node']);
  },
  'npx infermux demo': () => expect(run(PACKAGE.bin.infermux, 'demo', '--help')).toContain('Usage: infermux demo'),
  'npx infermux demo --control': () => expect(run(PACKAGE.bin.infermux, 'demo', '--help')).toContain('--control'),
  'npx infermux inspect model.onnx': () =>
    expect(run(PACKAGE.bin.infermux, 'inspect', '--help')).toContain('Usage: infermux inspect'),
  'npx infermux bench model.onnx': () =>
    expect(run(PACKAGE.bin.infermux, 'bench', '--help')).toContain('Usage: infermux bench'),
  'npx infermux serve': () => expect(run(PACKAGE.bin.infermux, 'serve', '--help')).toContain('Usage: infermux serve'),
  'npm ci': () => expect(existsSync(join(ROOT, 'package-lock.json'))).toBe(true),
  'npm start': () => expect(PACKAGE.scripts.start).toContain('demo'),
  'npm test': () => expect(PACKAGE.scripts.test).toContain('npm run vitest'),
  'npm run check': () => expect(PACKAGE.scripts.check).toContain('npm run vitest'),
};

function run(script: string, ...args: string[]): string {
  return execFileSync(process.execPath, [join(ROOT, script), ...args], { cwd: USER, encoding: 'utf8' });
}

beforeAll(() => {
  rmSync(USER, { recursive: true, force: true });
  mkdirSync(join(USER, 'node_modules'), { recursive: true });
  symlinkSync(ROOT, join(USER, 'node_modules', 'infermux'), 'dir');
  for (const { module, code } of [...blocks, ...ofPages])
    if (module !== undefined) writeFileSync(join(USER, module), code);
});

describe('every code block of the README and the pages behind it runs', () => {
  it.each(
    [...blocks, ...ofPages].filter(
      ({ language, module }) => (language === 'js' || language === 'ts') && module === undefined,
    ),
  )('$name ($language)', ({ name, language, code }) => {
    const file = join('.cache', 'readme', `${name.replace(' ', '-')}.${language === 'ts' ? 'mts' : 'mjs'}`);
    writeFileSync(join(ROOT, file), code);
    const output = language === 'ts' ? run('node_modules/tsx/dist/cli.mjs', join(ROOT, file)) : run(file);
    expect(output).not.toBe('');
  });

  it.each(blocks.filter(({ language }) => language === 'sh').flatMap(({ code }) => code.trim().split('\n')))(
    '%s',
    (command) => {
      expect(Object.keys(COMMANDS)).toContain(command);
      COMMANDS[command]?.();
    },
  );

  it('and there is no block of another kind, but for the picture', () => {
    expect(new Set(blocks.map(({ language }) => language))).toEqual(new Set(['sh', 'js', 'ts', 'text']));
    expect(blocks.filter(({ language }) => language === 'text')).toHaveLength(1);
  });

  it('the first example names the digit that is drawn', () => {
    expect(run(join('.cache', 'readme', 'block-2.mjs')).trim()).toBe('looks like a 1');
  });
});

describe('the pages behind the README', () => {
  it.each(pages)('$name is linked from it, and links to what is there', ({ name, text }) => {
    expect(README).toContain(`](docs/${name})`);
    const links = [...text.matchAll(/\]\(([^)#:]+)\)/g)].map(([, link = '']) => link);
    expect(links.filter((link) => !existsSync(join(ROOT, 'docs', link)))).toEqual([]);
    // Python stands beside JavaScript on the pages for those who come from elsewhere. Another test runs the commands.
    expect(ofPages.every(({ language }) => ['js', 'ts', 'python', 'sh', 'json', 'text'].includes(language))).toBe(true);
  });
});

describe('the tables of the README', () => {
  const rows = README.split('\n').filter((line) => line.startsWith('| `'));
  const names = rows.map((row) => /^\| `([^`]+)`/.exec(row)?.[1] ?? '');

  it('list every error code with its meaning', () => {
    for (const [code, { meaning, retryable }] of Object.entries(ERROR_CODES)) {
      expect(rows).toContain(`| \`${code}\` | ${meaning} | ${retryable ? 'yes' : 'no'} |`);
    }
  });

  it('list every option and every metric, and none that is not there', async () => {
    const engine = await createEngine({ replicas: 1 });
    await engine.close();
    const metrics = engine.metrics.getMetricsAsArray().map(({ name }) => name);
    expect(names.sort()).toEqual([...Object.keys(ERROR_CODES), ...metrics, ...OPTION_NAMES].sort());
  });
});
