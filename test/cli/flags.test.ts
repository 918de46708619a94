import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MAX_REPLICAS, parseThreads, parseWritableFile } from '../../dist/cli/flags.js';
import { MAX_REPLICAS as MOST_OF_AN_ENGINE } from '../../dist/deployments/config/resolve-deployment.js';
import { directory } from '../support/directories.js';

it('the command takes as many replicas as an engine does', () => {
  expect(MAX_REPLICAS).toBe(MOST_OF_AN_ENGINE);
});

it('threads are auto or as many as a session takes', () => {
  expect(parseThreads('auto,1,1024')).toEqual(['auto', 1, 1_024]);
  expect(parseThreads('auto')).toEqual(['auto']);
  for (const text of ['', 'all', '0', '1025', '1.5', 'auto,', 'Auto', '-1']) {
    expect(() => parseThreads(text), text).toThrow(
      'expected auto and integers from 1 to 1024 with commas between, like auto,1,2',
    );
  }
});

it('a file to write is a file or nothing yet, and no link, folder or device', () => {
  const root = directory({ file: 'old' });
  symlinkSync(join(root, 'file'), join(root, 'link'));
  symlinkSync(join(root, 'nothing'), join(root, 'dangling'));
  for (const name of ['file', 'new']) expect(parseWritableFile(join(root, name))).toBe(join(root, name));
  const refused = [...['link', 'dangling', '.'].map((name) => join(root, name)), '/dev/null'];
  for (const path of refused) expect(() => parseWritableFile(path), path).toThrow('a link, a folder or a device');
  expect(readFileSync(join(root, 'file'), 'utf8')).toBe('old');
});
