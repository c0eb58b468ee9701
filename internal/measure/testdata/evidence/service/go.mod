module evidence

go 1.26
