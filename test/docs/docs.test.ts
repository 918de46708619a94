import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { METRICS_OPTION_NAMES, OPTION_NAMES, resolveOptions } from '../../dist/engine/options.js';
import { RUN_OPTION_NAMES } from '../../dist/engine/requests/run-options.js';
import { createEngine, ERROR_CODES } from '../../dist/index.js';
import { EVENT_NAMES } from '../../dist/observability/engine-events.js';
import { infermux } from '../support/infermux.js';
import { anchorsOf, BLOCKS, codeRows, OTHER_PAGES, PAGES, pageOf, README, ROOT, tableOf } from './pages.js';

/** A user's folder: the package is installed in it. */
const USER = join(ROOT, '.cache', 'docs');
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const MOST_README_LINES = 200;

function run(script: string, ...args: string[]): string {
  return execFileSync(process.execPath, [join(ROOT, script), ...args], { cwd: USER, encoding: 'utf8' });
}

beforeAll(() => {
  rmSync(USER, { recursive: true, force: true });
  mkdirSync(join(USER, 'node_modules'), { recursive: true });
  symlinkSync(ROOT, join(USER, 'node_modules', 'infermux'), 'dir');
  for (const { module, code } of BLOCKS) if (module !== undefined) writeFileSync(join(USER, module), code);
});

describe('every block of code', () => {
  const programs = BLOCKS.filter(({ language, module }) => /^(js|ts)$/.test(language) && module === undefined);
  it.each(programs)('runs: $name ($language)', ({ name, language, code }) => {
    const file = join('.cache', 'docs', `${name.replace(' ', '-')}.${language === 'ts' ? 'mts' : 'mjs'}`);
    writeFileSync(join(ROOT, file), code);
    const output = language === 'ts' ? run('node_modules/tsx/dist/cli.mjs', join(ROOT, file)) : run(file);
    expect(output).not.toBe('');
  });

  it('of TypeScript that is a part of a program compiles, and has the errors that it says', async () => {
    const parts = BLOCKS.filter(({ language }) => language === 'typescript');
    expect(parts.length).toBeGreaterThan(5);
    const place = join(USER, 'parts');
    mkdirSync(place);
    // What the parts take for granted.
    writeFileSync(
      join(place, 'models.d.ts'),
      `import type { FeedOf, TensorOf } from 'infermux';
export interface Models {
  'digits-cnn': { inputs: { image: FeedOf<'float32'> }; outputs: { probabilities: TensorOf<'float32'> } };
  resnet50: { inputs: { data: FeedOf<'float32'> }; outputs: { scores: TensorOf<'float32'> } };
}\n`,
    );
    writeFileSync(
      join(place, 'given.d.ts'),
      `import type * as infermux from 'infermux';
import type { InferenceServer } from 'infermux/server';
import type * as models from './models.js';
declare global {
  const createEngine: typeof infermux.createEngine;
  type Models = models.Models;
  const engine: infermux.InferenceEngine;
  const server: InferenceServer;
  const pixels: Float32Array;
  const feeds: infermux.Feeds;
}\n`,
    );
    const fileOf = (name: string) => `${name.replace(' ', '-')}.ts`;
    for (const { name, code } of parts) writeFileSync(join(place, fileOf(name)), `${code}\nexport {};\n`);
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2023',
      lib: ['es2023', 'esnext.disposable'],
      strict: true,
    };
    const files = ['given.d.ts', ...parts.map(({ name }) => fileOf(name))];
    const config = {
      compilerOptions: { ...compilerOptions, noEmit: true, types: ['node'], skipLibCheck: true },
      files,
    };
    writeFileSync(join(place, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(ROOT, 'node_modules/typescript/lib/tsc.js');
    const compiled = promisify(execFile)(process.execPath, [tsc, '--pretty', 'false', '--singleThreaded'], {
      cwd: place,
    });
    const { stdout } = await compiled.catch((error: { stdout: string }) => error);
    const said = [...stdout.matchAll(/^(\S+)\((\d+),/gm)].map(([, file, line]) => `${file}:${line}`);
    const expected = parts.flatMap(({ name, code }) =>
      code.split('\n').flatMap((line, index) => (line.includes('// error') ? [`${fileOf(name)}:${index + 1}`] : [])),
    );
    expect([...new Set(said)].sort(), stdout).toStrictEqual(expected.sort());
  });

  const commands = BLOCKS.filter(({ language }) => language === 'sh').flatMap(({ code }) =>
    code.trim().replaceAll('\\\n', ' ').split('\n'),
  );
  const own = [...new Set(commands.filter((command) => command.includes('infermux ') && !command.startsWith('npm ')))];
  it.each(own)('that is a command has flags that there are: %s', async (command) => {
    const words = command
      .slice(command.indexOf('infermux '))
      .replace(/[|>].*$/, '')
      .split(/\s+/)
      .slice(1);
    const names = words.slice(0, ['models', 'cluster'].includes(words[0] ?? '') ? (words[1] === 'config' ? 3 : 2) : 1);
    const { code, stdout } = await infermux(...names, '--help');
    expect(code).toBe(0);
    expect(stdout).toContain(`Usage: infermux ${names.join(' ')}`);
    for (const flag of words.filter((word) => /^--?[a-z]/.test(word))) expect(stdout).toContain(flag.split('=')[0]);
  });

  it('that runs a script of npm names one that there is', () => {
    const scripts = commands.flatMap((command) => /^npm (?:run )?(\S+)$/.exec(command)?.[1] ?? []);
    const known = ['ci', ...Object.keys(PACKAGE.scripts)];
    expect(scripts.filter((script) => !known.includes(script))).toStrictEqual([]);
    const installs = commands.filter((command) => command.startsWith('npm install '));
    expect(installs).toContain('npm install infermux onnxruntime-node');
    const isOptional = (name: string) => PACKAGE.peerDependenciesMeta[name]?.optional === true;
    expect(Object.keys(PACKAGE.peerDependencies).filter((name) => !isOptional(name))).toEqual(['onnxruntime-node']);
  });

  it('of JSON is JSON', () => {
    const blocks = BLOCKS.filter(({ language }) => language === 'json');
    expect(blocks.length).toBeGreaterThan(3);
    for (const { name, code } of blocks) expect(() => JSON.parse(code), name).not.toThrow();
  });

  it('is of a known kind', () => {
    const kinds = ['js', 'ts', 'typescript', 'sh', 'text', 'json', 'python', 'yaml'];
    expect(
      BLOCKS.filter(({ language }) => !kinds.includes(language)).map(({ name, language }) => `${name} ${language}`),
    ).toEqual([]);
  });
});

describe('the README', () => {
  it(`has at most ${MOST_README_LINES} lines`, () => {
    expect(README.text.split('\n').length).toBeLessThanOrEqual(MOST_README_LINES);
  });

  it('has a first example that names the digit that is drawn', () => {
    expect(run(join('.cache', 'docs', 'README-2.mjs')).trim()).toBe('looks like a 1');
  });

  it('leads to every page', () => {
    const missing = PAGES.filter(({ path }) => path !== 'docs/index.md' && !README.text.includes(`](${path})`));
    expect(missing.map(({ path }) => path)).toEqual([]);
  });
});

describe('the pages', () => {
  it('have links that lead somewhere, to the very heading', () => {
    const all = [README, ...PAGES, ...OTHER_PAGES];
    const byPath = new Map(all.map((page) => [page.path, page]));
    const broken = all.flatMap((page) =>
      [...page.text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = '']) => {
        if (/^https?:/.test(link)) return [];
        const [file = '', anchor] = link.split('#');
        const path = file === '' ? page.path : join(dirname(page.path), file);
        if (!existsSync(join(ROOT, path))) return [`${page.path}: ${link}`];
        const target = byPath.get(path);
        return anchor === undefined || (target !== undefined && anchorsOf(target).has(anchor))
          ? []
          : [`${page.path}: ${link}`];
      }),
    );
    expect(broken).toEqual([]);
  });

  it('are all in the list of the site, which names no other', async () => {
    const { text } = { text: readFileSync(join(ROOT, 'docs/.vitepress/config.mjs'), 'utf8') };
    const listed = [...text.matchAll(/page\('[^']+', '([^']+)'\)/g)].map(([, name]) => `docs/${name}.md`);
    expect([...new Set(listed)].sort()).toEqual(
      PAGES.map(({ path }) => path)
        .filter((path) => path !== 'docs/index.md')
        .sort(),
    );
  });
});

describe('the tables', () => {
  const namesIn = (page: string) => codeRows(pageOf(page)).map((row) => /^\| `([^`]+)`/.exec(row)?.[1] ?? '');

  it('list every error code with its meaning, and what to do', () => {
    const page = pageOf('troubleshooting');
    for (const [code, { meaning, retryable }] of Object.entries(ERROR_CODES)) {
      expect(codeRows(page)).toContain(`| \`${code}\` | ${meaning} | ${retryable ? 'yes' : 'no'} |`);
      expect(page.text).toContain(`**${code}.**`);
    }
  });

  const options = pageOf('options');
  const ofEngine = [
    tableOf(options, '## Options of a deployment'),
    tableOf(options, '## Options of the engine'),
  ].flat();
  const namesOf = (rows: readonly (readonly string[])[]) => rows.flatMap(([names = '']) => names.split(', ')).sort();

  it('list every option of the engine, its metrics and its requests, and no other', () => {
    expect(namesOf(ofEngine)).toEqual([...OPTION_NAMES].sort());
    expect(namesOf(tableOf(options, '| option of `metrics` |'))).toEqual([...METRICS_OPTION_NAMES].sort());
    expect(namesOf(tableOf(options, '## Options of a request'))).toEqual([...RUN_OPTION_NAMES].sort());
  });

  it('have the defaults that there are, where a default is a value', () => {
    const { deployments, ...own } = resolveOptions({});
    const resolved: Readonly<Record<string, unknown>> = { ...own, ...deployments.default };
    const isValue = /^(-?[\d.]+|'[^']*'|true|false|\{( \w+: [\d.]+,?)+ \})$/;
    const values = ofEngine.filter(([, value = '']) => isValue.test(value));
    expect(values.length).toBeGreaterThan(15);
    for (const [name = '', value = ''] of values) {
      // These two are kept in another form.
      const kept = { ...resolved, isolation: 'thread', maxModelBytes: -1 }[name];
      expect(kept, name).toEqual(new Function(`return (${value})`)());
    }
  });

  it('list every metric, span and channel, and no other', async () => {
    const engine = await createEngine({ replicas: 1 });
    await engine.close();
    const metrics = engine.metrics.getMetricsAsArray().map(({ name }) => name);
    const spans = ['infer', 'queue', 'load', 'run', 'batch', 'model_load'].map((name) => `infermux.${name}`);
    const channels = ['infer', 'run', 'load'].map((name) => `infermux:${name}`);
    expect(namesIn('observability').sort()).toEqual([...metrics, ...spans, ...channels].sort());
    for (const { name, help } of engine.metrics.getMetricsAsArray())
      expect(codeRows(pageOf('observability')).find((row) => row.startsWith(`| \`${name}\``))).toContain(`| ${help} |`);
  });

  it('list every event, and no other', () => {
    const { text } = pageOf('observability');
    const begin = text.indexOf('| event | when | with |');
    const rows = text.slice(begin, text.indexOf('\n\n', begin)).split('\n').slice(2);
    expect(rows.map((row) => row.split('|')[1]?.trim()).sort()).toEqual([...EVENT_NAMES].sort());
  });
});
