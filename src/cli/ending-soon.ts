/** Time for the process to end by itself. */
const END_MS = 1_000;

/**
 * Runs a command that talks to NATS, and ends the process soon after it, with the exit code that it has. NATS's client leaves a
 * socket behind where nobody answers, which would keep the process for minutes. The command must have ended its threads.
 */
export async function endingSoon<T>(command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } finally {
    // What is written before goes first.
    setTimeout(() => process.stdout.write('', () => process.exit()), END_MS).unref();
  }
}
