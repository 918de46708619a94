import { expect, it } from 'vitest';
import { environmentFor } from '../../../dist/replicas/processes/launch.js';

it('the environment of a process has what it needs, what it is given, and no secrets', () => {
  const own = {
    ...{
      PATH: '/bin',
      HOME: '/root',
      LANG: 'C',
      LC_ALL: 'C',
      TMPDIR: '/tmp',
      CUDA_VISIBLE_DEVICES: '0',
      OMP_NUM_THREADS: '1',
    },
    ...{ AWS_SECRET_ACCESS_KEY: 'x', DATABASE_URL: 'x', NODE_OPTIONS: '--inspect', PGPASSWORD: 'x', ORT_SETTING: '1' },
  };
  expect(environmentFor(own, { PATH: '/own', TOKEN: 't' })).toEqual({
    ...{
      PATH: '/own',
      HOME: '/root',
      LANG: 'C',
      LC_ALL: 'C',
      TMPDIR: '/tmp',
      CUDA_VISIBLE_DEVICES: '0',
      OMP_NUM_THREADS: '1',
    },
    ...{ ORT_SETTING: '1', TOKEN: 't', ORT_DISABLE_TELEMETRY: '1' },
  });
  expect(environmentFor({ ORT_DISABLE_TELEMETRY: '0' }, {})).toEqual({ ORT_DISABLE_TELEMETRY: '0' });
});
