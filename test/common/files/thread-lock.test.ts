import { existsSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { tryLock } from '../../../dist/common/files/thread-lock.js';
import { directory } from '../../support/directories.js';
import { makePipe } from '../../support/pipes.js';

const lockPath = () => join(directory(), 'lock');

it('is held by one until it is given back', async () => {
  const path = lockPath();
  const unlock = await tryLock(path);
  expect(await tryLock(path)).toBeUndefined();
  await unlock?.();
  expect(existsSync(path)).toBe(false);
  expect(await tryLock(path)).toBeTypeOf('function');
});

it.skipIf(process.platform !== 'linux')('is given back by the death of the thread that held it', async () => {
  const path = lockPath();
  const code = `import(${JSON.stringify(new URL('../../../dist/common/files/thread-lock.js', import.meta.url).href)})
    .then(({ tryLock }) => tryLock(${JSON.stringify(path)}))
    .then(() => require('node:worker_threads').parentPort.once('message', () => process.exit()).postMessage('held'))`;
  const worker = new Worker(code, { eval: true });
  await new Promise((resolve) => worker.once('message', resolve));
  expect(await tryLock(path)).toBeUndefined();
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  worker.postMessage('end');
  await ended;
  expect(await tryLock(path)).toBeTypeOf('function');
});

it('is not held by another process that has the number of a dead one', async () => {
  const path = lockPath();
  await tryLock(path);
  const holder = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...holder, startedAt: '1' }));
  expect(await tryLock(path)).toBeTypeOf('function');
});

it('is held by one in another container or on another machine, which cannot be looked at, for ten minutes', async () => {
  const path = lockPath();
  await tryLock(path);
  const holder = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...holder, world: 'another', startedAt: '1' }));
  expect(await tryLock(path)).toBeUndefined();
  const long = new Date(Date.now() - 660_000);
  utimesSync(path, long, long);
  expect(await tryLock(path)).toBeTypeOf('function');
});

it('is held for a moment by one who has not yet written its name', async () => {
  const path = lockPath();
  writeFileSync(path, '');
  expect(await tryLock(path)).toBeUndefined();
});

it.skipIf(process.platform !== 'linux')(
  'is not taken from a holder whose name the system cannot read now',
  async () => {
    const path = lockPath();
    symlinkSync('/proc/self/mem', path);
    await expect(tryLock(path)).rejects.toMatchObject({ code: 'EIO' });
    expect(existsSync(path)).toBe(true);
  },
);

it.skipIf(process.platform === 'win32')(
  'is taken in the place of a link or a pipe, through which nothing goes',
  async () => {
    const root = directory({ precious: 'mine' });
    const long = new Date(Date.now() - 60_000);
    utimesSync(join(root, 'precious'), long, long);
    symlinkSync(join(root, 'precious'), join(root, 'lock'));
    symlinkSync(join(root, 'precious'), join(root, `lock.${process.pid}.dead`));
    const unlock = await tryLock(join(root, 'lock'));
    expect(readFileSync(join(root, 'precious'), 'utf8')).toBe('mine');
    await unlock?.();
    utimesSync(makePipe(join(root, 'lock')), long, long);
    expect(await tryLock(join(root, 'lock'))).toBeTypeOf('function');
    expect(readdirSync(root)).toEqual(['lock', `lock.${process.pid}.dead`, 'precious']);
  },
);
