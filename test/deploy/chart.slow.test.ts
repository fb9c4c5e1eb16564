/** The chart by real Helm where only Go is at hand: Helm is built once, and kept outside of this clone. */
import { describe, it } from '@jest/globals';
import { chartSuite } from './chart-suite.ts';
import { kubeTool } from './helm.ts';

const found = kubeTool('helm', '--find');
const helm = found ?? kubeTool('helm');

if (found !== undefined) {
  it('is rendered by the fast tests here', () => undefined);
} else if (helm === undefined) {
  it('is not rendered here', () => {
    console.warn('Not run here: neither helm nor Go, which builds it, is installed.');
  });
} else {
  describe('with Helm built from Go’s modules', () => chartSuite(helm));
}
