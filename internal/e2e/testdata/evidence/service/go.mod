module mortal

go 1.26
