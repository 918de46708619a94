/** Time for what is written to be read. */
const END_MS = 1_000;

/**
 * Runs a command that talks to NATS, and ends the process soon after it, with the exit code that it has. NATS's client leaves a
 * socket behind where nobody answers, which would keep the process for minutes. The command must have ended its threads.
 */
export async function endingSoon<T>(command: () => Promise<T>): Promise<T> {
  try {
    return await command();
  } finally {
    setTimeout(() => process.exit(), END_MS).unref();
  }
}
