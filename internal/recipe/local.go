package recipe

func checkLocal(r *Recipe) Errors { return nil }
