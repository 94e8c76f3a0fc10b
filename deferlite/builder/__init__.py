"""From a commit to a published build: checkout, plan, install, discover, publish. The plan is data."""
