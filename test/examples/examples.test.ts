import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
const names = readdirSync(EXAMPLES, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? [entry.name] : [],
);

/** Runs npm in the folder of an example; resolves to its exit code and what it printed. */
const npm = (name: string, ...args: string[]) =>
  new Promise<{ readonly code: number; readonly output: string }>((resolve) => {
    // A runner of tests within another one takes its variables for its own.
    const { NODE_OPTIONS: _, VITEST: _own, NODE_ENV: _env, ...env } = process.env;
    execFile('npm', args, { cwd: join(EXAMPLES, name), env }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), output: `${stdout}${stderr}` }),
    );
  });

/** They run until a signal ends them; their own tests start them. */
const SERVERS = ['fastify', 'nestjs', 'nextjs', 'node-http'];

describe('the examples', () => {
  it.each(names)('%s runs by itself: npm install, npm start, npm test', async (name) => {
    const installed = await npm(name, 'install', '--no-audit', '--no-fund', '--no-package-lock');
    expect(installed.code, installed.output).toBe(0);
    const started = SERVERS.includes(name) ? undefined : await npm(name, 'start', '--silent');
    if (started !== undefined)
      expect(started, started.output).toMatchObject({ code: 0, output: expect.stringMatching(/\w/) });
    const tested = await npm(name, 'test');
    expect(tested.code, tested.output).toBe(0);
  });

  it.each(names)('%s says what it is, and how it starts', (name) => {
    const { description, scripts } = JSON.parse(readFileSync(join(EXAMPLES, name, 'package.json'), 'utf8'));
    expect(description).not.toBe('');
    expect(scripts).toHaveProperty('start');
    expect(readFileSync(join(EXAMPLES, name, 'README.md'), 'utf8')).toContain('```sh\nnpm install\nnpm start\n```');
    expect(existsSync(join(EXAMPLES, name, 'package-lock.json'))).toBe(false);
  });

  it('are all in the list', () => {
    const listed = [...readFileSync(join(EXAMPLES, 'README.md'), 'utf8').matchAll(/^\| \[([\w-]+)\]\(\1\) \|/gm)].map(
      ([, name]) => name,
    );
    expect(listed.sort()).toStrictEqual(names.sort());
  });
});
