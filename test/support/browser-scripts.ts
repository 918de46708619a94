/** Programs for a browser, as text: the types of browsers and those of Node do not go together. */

/** A drop of a picture of one upright stroke of ink. */
export const DROP_OF_A_ONE = `(async () => {
  const canvas = new OffscreenCanvas(80, 80);
  const context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, 80, 80);
  context.fillStyle = 'black';
  context.fillRect(40, 10, 10, 60);
  const transfer = new DataTransfer();
  transfer.items.add(new File([await canvas.convertToBlob()], 'one.png', { type: 'image/png' }));
  return transfer;
})()`;

/** The contrast of each text with the ground of its card, as WCAG 2 defines it. */
export const CONTRASTS = `(() => {
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = Number(part) / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = luminance(getComputedStyle(document.querySelector('.card')).backgroundColor);
  return [...document.querySelectorAll('h1, h2, th, td, td a, .faint, nav a, #state')].map((element) => {
    const text = luminance(getComputedStyle(element).color);
    return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
  });
})()`;
