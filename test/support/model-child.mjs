// A process for models that does what the path of an `inspect` says.
import { writeSync } from 'node:fs';

const send = (message) => new Promise((resolve) => process.send(message, resolve));

process.on('message', async ({ given: { path } }) => {
  if (path === 'die before') process.kill(process.pid, 'SIGKILL');
  if (path === 'memory') return send({ kind: 'memory' });
  await send({ kind: 'begins', phase: path === 'die in a run' ? 'run' : 'load', bytes: 0 });
  if (path === 'hang') for (;;);
  if (path === 'exit') process.exit(7);
  if (path.startsWith('die')) {
    writeSync(2, `${'x'.repeat(10_000)}\u001b[31mforged\nline\n`);
    process.kill(process.pid, 'SIGABRT');
    return;
  }
  await send(
    path === 'fail' ? { kind: 'error', code: 'INVALID_ARGUMENT', message: 'no' } : { kind: 'result', result: 1 },
  );
});
