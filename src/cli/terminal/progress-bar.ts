import { SingleBar } from 'cli-progress';

/** Shows a progress bar on a terminal; shows nothing when the output goes to a file or a pipe. */
export function progressBar(what: string) {
  if (!process.stdout.isTTY || !process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    format: `{bar} {percentage} % | {value} of {total} ${what}`,
    stream: process.stderr,
    clearOnComplete: true,
    barCompleteChar: '█',
    barIncompleteChar: '░',
  });
  // The bar changes the terminal's behaviour, and must change it back when the process ends.
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      bar.stop();
      process.exit(code);
    });
  }
  let isStarted = false;
  return {
    update: (done: number, total: number) => {
      if (!isStarted) bar.start(total, 0);
      isStarted = true;
      bar.setTotal(total);
      bar.update(done);
    },
    stop: () => bar.stop(),
  };
}
