import pc from 'picocolors';

const { isTTY } = process.stdout;
const { FORCE_COLOR = '' } = process.env;

/** Colours for terminals. On machines for CI picocolors colours pipes too, whose readers look for plain words. */
export const colors = pc.createColors(pc.isColorSupported && (isTTY || FORCE_COLOR !== ''));
