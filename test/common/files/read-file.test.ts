import { symlinkSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readTextFile } from '../../../dist/common/files/read-file.js';
import { directory } from '../../support/directories.js';
import { makePipe } from '../../support/pipes.js';

it('a text is read through a link too, and says whose file it is', async () => {
  const root = directory({ file: 'text' });
  symlinkSync(join(root, 'file'), join(root, 'link'));
  expect(await readTextFile(join(root, 'link'))).toMatchObject({ text: 'text', stats: { size: 4 } });
});

it.skipIf(process.platform === 'win32')('neither a pipe, a folder nor a device is read, or waited for', async () => {
  const root = directory();
  const pipes = Array.from({ length: 8 }, (_, index) => makePipe(join(root, `pipe-${index}`)));
  // More than the file system has threads: were one of them waited for, nothing would be read any more.
  const outcomes = await Promise.allSettled([...pipes, root, '/dev/zero'].map((path) => readTextFile(path)));
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({
      status: 'rejected',
      reason: { message: expect.stringContaining('is not a regular file') },
    });
  }
});

it('a file that no text fills is not read', async () => {
  const path = join(directory({ file: '' }), 'file');
  truncateSync(path, 2 ** 26 + 1);
  await expect(readTextFile(path)).rejects.toThrow('must have at most 67108864 bytes, got 67108865');
});
