"""An analysis in other forms: Markdown for people; Prometheus text, JUnit XML and CSV for programs; JSON Schemas."""
