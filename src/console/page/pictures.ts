import type { ValueDescription } from '../messages.js';
import { h } from './elements.js';

/** How a picture becomes the elements of an input. */
export interface PictureForm {
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3 | 4;
  readonly isChannelsFirst: boolean;
  readonly dims: readonly number[];
}

/** Ranges that models want their pixels in: what each of red, green and blue (0 to 255) becomes. */
export const RANGES: Readonly<Record<string, (value: number, channel: number) => number>> = {
  '0 to 1': (value) => value / 255,
  '0 to 255': (value) => value,
  '-1 to 1': (value) => value / 127.5 - 1,
  ImageNet: (value, channel) =>
    (value / 255 - ([0.485, 0.456, 0.406][channel] ?? 0)) / ([0.229, 0.224, 0.225][channel] ?? 1),
  'ink, 0 to 16': (value) => 16 - value / 16,
};

/** Sizes that a free dimension gets. */
const USUAL_SIDE = 224;

/** How the input takes a picture; undefined if it does not look as if it took any. */
export function pictureForm({ shape, type }: ValueDescription): PictureForm | undefined {
  if (!['float32', 'uint8', 'float64', 'int32'].includes(type)) return undefined;
  const size = (index: number) => (typeof shape[index] === 'number' ? (shape[index] as number) : undefined);
  const isChannels = (count: number | undefined): count is 1 | 3 | 4 => count === 1 || count === 3 || count === 4;
  if (shape.length === 4) {
    const [first, last] = [size(1), size(3)];
    const isChannelsFirst = isChannels(first);
    if (!isChannelsFirst && !isChannels(last)) return undefined;
    const channels = (isChannelsFirst ? first : last) as 1 | 3 | 4;
    const [height = USUAL_SIDE, width = USUAL_SIDE] = isChannelsFirst ? [size(2), size(3)] : [size(1), size(2)];
    const dims = isChannelsFirst ? [1, channels, height, width] : [1, height, width, channels];
    return { height, width, channels, isChannelsFirst, dims };
  }
  // A row of grey pixels of a square.
  const side = Math.sqrt(size(1) ?? 0);
  if (shape.length !== 2 || !Number.isInteger(side) || side < 4) return undefined;
  return { height: side, width: side, channels: 1, isChannelsFirst: true, dims: [1, side * side] };
}

/** Draws the picture in the size that the input has, and returns its elements. */
export function pixelsOf(
  canvas: HTMLCanvasElement,
  picture: ImageBitmap,
  form: PictureForm,
  range: string,
): Float32Array {
  const { height, width, channels, isChannelsFirst } = form;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const convert = RANGES[range] ?? ((value: number) => value);
  const elements = new Float32Array(height * width * channels);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    const [red = 0, green = 0, blue = 0, alpha = 0] = data.subarray(4 * pixel, 4 * pixel + 4);
    const values = channels === 1 ? [0.299 * red + 0.587 * green + 0.114 * blue] : [red, green, blue, alpha];
    for (let channel = 0; channel < channels; channel += 1) {
      const index = isChannelsFirst ? channel * height * width + pixel : pixel * channels + channel;
      elements[index] = convert(values[channel] ?? 0, channel);
    }
  }
  return elements;
}

/** A place onto which a picture can be dropped, or chosen by a click. */
export function dropPlace(
  name: string,
  chosen: (picture: ImageBitmap) => void,
): { readonly element: HTMLElement; readonly canvas: HTMLCanvasElement } {
  const canvas = h('canvas', {
    hidden: true,
    role: 'img',
    'aria-label': `The picture for ${name}, as the model gets it`,
  });
  const take = async (file: File | undefined) => {
    if (file === undefined) return;
    try {
      chosen(await createImageBitmap(file));
      canvas.hidden = false;
    } catch {
      note.textContent = `${file.name} is not a picture that this browser can read.`;
    }
  };
  const input = h('input', {
    type: 'file',
    accept: 'image/*',
    id: `picture-${name}`,
    onchange: () => void take(input.files?.[0]),
  });
  const note = h('p', {}, 'Drop a picture here, or choose one: ');
  const element = h(
    'div',
    {
      class: 'drop',
      ondragover: (event) => {
        event.preventDefault();
        element.classList.add('over');
      },
      ondragleave: () => element.classList.remove('over'),
      ondrop: (event) => {
        event.preventDefault();
        element.classList.remove('over');
        void take((event as DragEvent).dataTransfer?.files[0]);
      },
    },
    note,
    h('label', { for: `picture-${name}`, class: 'faint' }, 'Picture '),
    input,
    canvas,
  );
  return { element, canvas };
}
