/** Whether a report has a place, known before the run that takes minutes. */
import { accessSync, closeSync, constants, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Leaves the file as it is. @throws Error that says why nothing can be written there */
export function requirePlace(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isDirectory() === true || /(?:^|\/)$/u.test(file)) {
    throw new Error(`${file || 'nothing'} is no file`);
  }
  if (found === undefined) accessSync(`${dirname(file)}/`, constants.W_OK);
  // Its mode alone does not say whether it can be written; opening a pipe would wait for its reader.
  else if (found.isFile()) closeSync(openSync(file, 'a'));
}
