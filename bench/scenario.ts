import type { Outcome } from './report.js'

export interface ScenarioOptions {
  /** Samples of each measure, at least 5 unless the run is only a look. */
  samples: number
  /** Settings of the server under test. */
  env: Record<string, string>
  /** Arguments of its Node, for profiling. */
  nodeArgs: string[]
  /** Leaves the temporary folder, for profiles. */
  keep: boolean
  /** Text that the names of cases must have; empty: all of them. */
  only: string
}

export type Scenario = (options: ScenarioOptions) => Promise<Outcome>
