import { SerialQueue } from '../common/tasks/serial-queue.js';
import { isSameData } from '../common/values/realm.js';

/** Says that so many replicas of a deployment keep a model. */
export interface Pin {
  /** The model's id or `id@version`, as the caller wrote it. */
  readonly target: string;
  readonly deployment: string;
  readonly replicas: number | 'all';
}

/** The models that callers have pinned. Changes take turns, and each is saved before it takes effect. */
export class SavedPins {
  readonly #save: (pins: readonly Pin[]) => Promise<void>;
  readonly #turns = new SerialQueue();
  #pins: readonly Pin[] = [];

  /** @param save writes the pins to the checkpoint. When it rejects, nothing changes. */
  constructor(save: (pins: readonly Pin[]) => Promise<void>) {
    this.#save = save;
  }

  get all(): readonly Pin[] {
    return this.#pins;
  }

  /** Takes over the pins of a checkpoint. They are not saved again. */
  restore(pins: readonly Pin[]): void {
    this.#pins = pins;
  }

  /** The pin with the same target and deployment. */
  find(pin: Pin): Pin | undefined {
    return this.#pins.find((other) => isSame(other, pin));
  }

  /** Puts `wanted`, or no pin, in the place of the pin with the same target and deployment. */
  replace(pin: Pin, wanted: Pin | undefined): Promise<void> {
    const added = wanted === undefined ? [] : [wanted];
    return this.#change((pins) => [...pins.filter((other) => !isSame(other, pin)), ...added]);
  }

  remove(isRemoved: (pin: Pin) => boolean): Promise<void> {
    return this.#change((pins) => pins.filter((pin) => !isRemoved(pin)));
  }

  #change(change: (pins: readonly Pin[]) => readonly Pin[]): Promise<void> {
    return this.#turns.run(async () => {
      const pins = change(this.#pins);
      if (isSameData(pins, this.#pins)) return;
      await this.#save(pins);
      this.#pins = pins;
    });
  }
}

function isSame(left: Pin, right: Pin): boolean {
  return left.target === right.target && left.deployment === right.deployment;
}
