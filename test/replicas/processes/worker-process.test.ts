import { expect, it } from 'vitest';
import { systemClock } from '../../../dist/common/clock.js';
import type { RunMessage } from '../../../dist/protocol/messages.js';
import { QueueCounters } from '../../../dist/protocol/queue-counters.js';
import { packGroups } from '../../../dist/protocol/request-groups.js';
import { ReplicaProcess } from '../../../dist/replicas/processes/replica-process.js';
import { WorkerProcess } from '../../../dist/replicas/processes/worker-process.js';
import { RUNTIME_SETTINGS } from '../../support/runtime-settings.js';

const LAUNCH = { env: {}, execArgv: [], uid: undefined, gid: undefined, isExpress: false };

it('is killed when it answers a request before it has it: the memory of the request would be used again', async () => {
  const all = new QueueCounters(1);
  const { counters } = all.take() as NonNullable<ReturnType<QueueCounters['take']>>;
  const program = new URL('../../support/hasty-process.mjs', import.meta.url);
  const host = new WorkerProcess(
    {
      settings: RUNTIME_SETTINGS,
      limits: { memoryLimitBytes: undefined, runTimeoutMs: -1 },
      clock: systemClock,
      process: () => new ReplicaProcess(program, LAUNCH),
    },
    all,
    counters,
  );
  const x = { type: 'float32', dims: [1, 2_000_000], data: new Float32Array(2_000_000) } as const;
  const feeds = [{ x }, { x }];
  const { groups } = packGroups([{ feeds, joined: true, outputs: undefined, checked: false, hasApart: false }]);
  const message: RunMessage = {
    ...{ kind: 'run', model: 'm', definition: undefined, groups, spare: undefined, verify: false },
  };
  let isAnswered = false;
  void host.post(message).then(() => {
    isAnswered = true;
  });
  const cause = await host.ended;
  expect(cause).toMatchObject({
    message: 'its process sent what cannot be read',
    cause: { message: 'it answered a request before it had it' },
  });
  expect(isAnswered).toBe(false);
});
