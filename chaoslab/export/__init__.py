"""An analysis in other forms: Markdown for people and reviews, Prometheus text for monitoring."""
