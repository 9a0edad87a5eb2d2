"""Parts of HTTP that routes share: authentication, headers, queries, long polling, problem documents, JSON shapes."""
