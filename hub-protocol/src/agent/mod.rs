//! The agent's side: the desired state with its fences, and the session.
