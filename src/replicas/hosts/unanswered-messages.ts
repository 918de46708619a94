import type { ReplicaMessage } from '../../protocol/messages.js';

interface Unanswered {
  readonly id: number;
  readonly message: ReplicaMessage;
  readonly sent: number;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The messages to a replica that have no answer yet. */
export class UnansweredMessages {
  /**
   * Few, and mostly answered in order. Not a Map: the table that a Map has outgrown refers to the table that replaced
   * it. As soon as one table is in the old generation, all later tables end up there too, with the answers in them, and
   * V8 collects the whole heap every second.
   */
  readonly #messages: Unanswered[] = [];
  #oldestRejected: ReplicaMessage | undefined;
  #lastId = 0;

  /** The oldest message without an answer, also after its sender was rejected. */
  get oldest(): ReplicaMessage | undefined {
    return this.#oldestRejected ?? this.#messages[0]?.message;
  }

  /** How many runs are under way. */
  get runs(): number {
    return this.#messages.filter(({ message }) => message.kind === 'run').length;
  }

  /** Number of the oldest run; undefined when none is under way. */
  get oldestRun(): number | undefined {
    return this.#messages.find(({ message }) => message.kind === 'run')?.id;
  }

  /** Returns the number of the next message. */
  nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** The message was sent. Resolves with its answer. @param sent is kept for {@link find}. */
  add(id: number, message: ReplicaMessage, sent = 0): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#messages.push({ id, message, sent, resolve, reject });
    });
  }

  /** Undefined when nobody waits for an answer. */
  find(wanted: number): Pick<Unanswered, 'message' | 'sent'> | undefined {
    return this.#messages.find(({ id }) => id === wanted);
  }

  /** @returns the message that is answered; undefined when nobody waits for the answer. */
  answered(id: number, answer: unknown): ReplicaMessage | undefined {
    const unanswered = this.#take(id);
    unanswered?.resolve(answer);
    return unanswered?.message;
  }

  reject(id: number, error: unknown): void {
    this.#take(id)?.reject(error);
  }

  rejectAll(error: unknown): void {
    this.#oldestRejected ??= this.#messages[0]?.message;
    for (const { reject } of this.#messages.splice(0)) reject(error);
  }

  #take(wanted: number): Unanswered | undefined {
    const index = this.#messages.findIndex(({ id }) => id === wanted);
    return index === -1 ? undefined : this.#messages.splice(index, 1)[0];
  }
}
