/** The program of the child processes that load and run models for the commands. */
import { readFileSync, writeFileSync } from 'node:fs';
import { InfermuxError } from '../../index.js';
import { benchModel } from '../bench/bench.js';
import { inspectModel } from '../inspect.js';
import { messageOf } from '../terminal/printable.js';
import { checkModel } from './check-model.js';
import type { ChildMessage, JobMessage, JobName, Jobs, Signs } from './jobs.js';
import { tryProvider } from './try-provider.js';

const MEMORY_CHECK_MS = 50;

const memoryBytes = Number(process.argv[2]);

const send = (message: ChildMessage) => void process.send?.(message, undefined, {}, () => undefined);

const signs: Signs = {
  begins: (phase, bytes) => send({ kind: 'begins', phase, bytes }),
  progress: (done, total) => send({ kind: 'progress', done, total }),
};

function perform(message: JobMessage): Promise<Jobs[JobName]['result']> {
  switch (message.job) {
    case 'check':
      return checkModel(message.given, signs);
    case 'provider':
      return tryProvider(message.given, signs);
    case 'inspect':
      return inspectModel(message.given.path, signs);
    case 'bench':
      return benchModel(message.given, signs);
  }
}

process.on('message', (message) => {
  perform(message as JobMessage).then(
    (result) => send({ kind: 'result', result }),
    (error: unknown) => {
      const code = error instanceof InfermuxError ? error.code : 'INTERNAL';
      send({ kind: 'error', code, message: messageOf(error) });
    },
  );
});

// The command is gone. An ordinary exit would wait for a load that may never end.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));

// Models are loaded in the threads of replicas, so this thread sees them fill the memory.
setInterval(() => {
  if (memoryInUse() > memoryBytes) send({ kind: 'memory' });
}, MEMORY_CHECK_MS).unref();
preferAsVictim();

/** Bytes of the process's own memory. Pages of mapped files do not count, because the system can take them back. */
function memoryInUse(): number {
  if (process.platform !== 'linux') return process.memoryUsage.rss();
  const [, kilobytes] = /^RssAnon:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  return 1_024 * Number(kilobytes);
}

/** Makes Linux end this process before any other, should the machine run out of memory all the same. */
function preferAsVictim(): void {
  if (process.platform !== 'linux') return;
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // A sandbox may forbid it: then the bound on memory is all there is.
  }
}
