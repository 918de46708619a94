import { placementOf } from '../../tensors/memory/placement.js';
import type { Slab } from '../../tensors/memory/slabs.js';
import type { Tensor, TensorData } from '../../tensors/tensor.js';

type TensorWithData = { data: TensorData };

/** The memory of the tensors that go to a replica by themselves, while it may read them. */
export class ApartMemory {
  readonly #slabs: readonly Slab[];
  /** Those whose arrays are transferred with the message, and so are lost with the replica. */
  readonly #given: readonly TensorWithData[];

  constructor(tensors: readonly Tensor[]) {
    const slabs: Slab[] = [];
    const given: TensorWithData[] = [];
    for (const tensor of tensors) {
      const placement = placementOf(tensor);
      if (placement === 'given') given.push(tensor);
      else if (placement !== undefined) slabs.push(placement);
    }
    for (const slab of slabs) slab.hold();
    this.#slabs = slabs;
    this.#given = given;
  }

  /** The replica reads none of it any more. Call it once. */
  release(): void {
    for (const slab of this.#slabs) slab.release();
  }

  /** Puts arrays that the replica has sent back where they were, in the order of the message. */
  restore(returned: readonly TensorData[] = []): void {
    for (const [index, data] of returned.entries()) {
      const tensor = this.#given[index];
      if (tensor !== undefined) tensor.data = data;
    }
  }
}
