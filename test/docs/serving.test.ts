import { execFile, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SERVE_OPTIONS } from '../../dist/cli/serve/serve-options.js';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { ERROR_STATUSES, GRPC_STATUS } from '../../dist/open-inference/error-statuses.js';
import { createServer, type InferenceServer } from '../../dist/server/index.js';
import { resolveServer } from '../../dist/server/server-options.js';
import { directory } from '../support/directories.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const page = (name: string) => readFileSync(`${ROOT}docs/${name}.md`, 'utf8');
const serving = page('serving');
const configuration = page('configuration');
const makesKeys = 'head -c 32 /dev/urandom | base64 > keys';
const blocks = (language: string) =>
  [...serving.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, code = '']) => code);
const rowsOf = (text: string) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));

let engine: InferenceEngine;
let server: InferenceServer;
beforeAll(async () => {
  engine = await createEngine({ models: `${ROOT}native-models`, replicas: 1 });
  server = await createServer(engine, { http: { port: 0 }, grpc: { port: 0 } });
});
afterAll(async () => {
  await server.close();
  await engine.close();
});

describe('the page about serving', () => {
  it('has commands that are answered', async () => {
    const commands = blocks('sh').flatMap((code) => code.trim().split('\n'));
    const curls = commands.filter((command) => command.startsWith('curl '));
    expect(curls).toHaveLength(4);
    for (const command of curls.filter((command) => !command.includes('keys'))) {
      const own = command.replace('localhost:8000', `localhost:${server.http?.port}`).replace('curl', 'curl -sf');
      const { stdout } = await promisify(execFile)('bash', ['-c', own]);
      expect(JSON.parse(stdout)).not.toHaveProperty('error');
    }
    expect(commands.filter((command) => !command.startsWith('curl '))).toStrictEqual([
      'npx infermux serve ./models',
      'pip install grpcio grpcio-tools',
      expect.stringMatching(/^python3 /),
      makesKeys,
      'npx infermux serve ./models --api-keys keys',
    ]);
  });

  it('has commands that make a key, and send it', async () => {
    const cwd = directory();
    const curl = /^curl .*keys.*$/m.exec(serving)?.[0] as string;
    execFileSync('bash', ['-c', makesKeys], { cwd });
    const withKeys = { auth: { keys: { file: join(cwd, 'keys') } }, http: { port: 0 }, grpc: false } as const;
    const closed = await createServer(engine, withKeys);
    try {
      const own = curl.replace('localhost:8000', `localhost:${closed.http?.port}`).replace('curl', 'curl -sf');
      const { stdout } = await promisify(execFile)('bash', ['-c', own], { cwd });
      expect(JSON.parse(stdout)).toHaveProperty('models');
      const keyless = promisify(execFile)('bash', ['-c', own.replace(/-H "[^"]*"/, '')], { cwd });
      await expect(keyless).rejects.toThrow('curl');
    } finally {
      await closed.close();
    }
  });

  const python = '/usr/bin/python3';
  const hasPackages = (() => {
    try {
      execFileSync(python, ['-c', 'import grpc, grpc_tools'], { stdio: 'pipe' });
      return true;
    } catch {
      return false;
    }
  })();

  it.skipIf(!hasPackages)('has an example in Python that runs', async () => {
    const stubs = directory();
    const made = /^python3 (-m grpc_tools.protoc .+)$/m.exec(serving)?.[1] as string;
    const args = made.replace('node_modules/infermux/proto', `${ROOT}proto`).split(' ');
    execFileSync(python, args, { cwd: stubs, stdio: 'pipe' });
    const [code = ''] = blocks('python');
    const { stdout } = await promisify(execFile)(python, ['-c', code.replace('8001', String(server.grpc?.port))], {
      cwd: stubs,
    });
    expect(stdout).toMatch(/^\(([\d.e-]+(, )?){10}\)\n$/);
  });

  it('has the status of every code', () => {
    const nameOf = (status: number) => Object.entries(GRPC_STATUS).find(([, number]) => number === status)?.[0];
    const expected = Object.entries(ERROR_STATUSES).map(([code, { http, grpc }]) => [
      ...['', `\`${code}\``, String(http), nameOf(grpc), ''],
    ]);
    const rows = rowsOf(serving).map(([start, code = '', ...rest]) => [
      ...[start, code.replace(/, if it is retryable$/, ''), ...rest],
    ]);
    expect(rows.filter(([, code = '']) => /^`[A-Z_]+`$/.test(code))).toStrictEqual(expected);
  });
});

describe('the page about the configuration', () => {
  const rows = rowsOf(configuration);

  it('lists every flag with its variable', () => {
    const listed = rows.filter(([, flag = '']) => flag.startsWith('`--')).map(([, flag, variable]) => [flag, variable]);
    const expected = SERVE_OPTIONS.map(({ flags, envVar }) => [
      `\`${flags}\``,
      envVar === undefined ? '' : `\`${envVar}\``,
    ]);
    expect(listed).toStrictEqual(expected);
  });

  it('lists every option and every limit with its default', () => {
    const { limits } = resolveServer({});
    const listed = Object.fromEntries(rows.map(([, name = '', value = '']) => [name.replaceAll('`', ''), value]));
    for (const [name, value] of Object.entries(limits)) expect(listed[name], name).toBe(String(value));
    const options = ['host', 'http', 'grpc', 'admin', 'auth', 'cors', 'tls', 'limits', 'nonFinite', 'logger'];
    for (const name of [...options, 'logRequests', 'drainDelayMs']) expect(listed).toHaveProperty(name);
  });
});
