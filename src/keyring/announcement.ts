/** What is told before it is done: an event, and an entry of the log. */

/** What will be done to a key or version, and when. */
export interface Announcement {
  readonly of: 'rotation' | 'deactivation' | 'destruction' | 'retirement';
  /** When it is; of a retirement, before when it is not. */
  readonly at: Date;
  /** Null when it is about the whole key. */
  readonly version: number | null;
}
