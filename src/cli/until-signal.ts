const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Resolves at the first signal to end. The second one ends the process. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    const ended = () => {
      for (const signal of SIGNALS) process.off(signal, ended);
      resolve();
    };
    for (const signal of SIGNALS) process.on(signal, ended);
  });
}
