import { expect, it } from 'vitest';
import { rehearse } from '../../../dist/worker/process/rehearsal.js';

it('a spare process has been through all that a replica does: nothing of it fails', async () => {
  let looks = 0;
  await rehearse(() => {
    looks += 1;
    return false;
  });
  expect(looks).toBe(20);
});

it('ends early when the process is needed', async () => {
  let looks = 0;
  await rehearse(() => {
    looks += 1;
    return true;
  });
  expect(looks).toBe(1);
});
